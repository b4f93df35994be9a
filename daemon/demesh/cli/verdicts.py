"""What the facts about a broker mean for a mesh, and the line to change: pure, a table of rules.

Wrong is what a mesh does not run with; a warning is what costs it time, or somebody else nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from demesh.cli.facts import Facts, Patient, Stage
from demesh.wire.kinds import FRAME_BYTES_MAX
from demesh.wire.topics import acl_lines


class Grade(Enum):
    """How good or bad it is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    UNREACHABLE = "absent"  # nothing is known to be wrong: it may be there later


class Make(Enum):
    """Whose broker it is, as far as one can tell; each is configured in another way."""

    MOSQUITTO = "mosquitto"
    EMBEDDED = "demesh"
    RABBITMQ = "RabbitMQ"
    OTHER = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for a person, and what to change, if anything."""

    grade: Grade
    about: str
    text: str
    change: str = ""


# The topic, and with it the whole packet, in front of the largest frame.
PACKET_BYTES_MIN = FRAME_BYTES_MAX + 256

# Nagle's algorithm waits for a delayed acknowledgement: 40 ms on Linux, 200 elsewhere. Half of the
# least tells it from a slow line, whose round trip is taken off.
HELD_US = 20_000

# A decision takes some three messages one after the other; `lan` gives up on one after 250 ms.
LAN_ROUND_TRIP_US = 60_000

# A street's two minutes of messages; catching up by itself costs a device seconds.
QUEUE_MIN = 1_001  # mosquitto's default is 1,000

# mosquitto gives a subscriber at QoS 1 no more than its queue takes.
RETAINED_TRAP = 1_000

# A certificate that is renewed each 90 days is renewed a month before it ends.
RENEW_DAYS = 14

# Deadlines of the ledger are in whole seconds, offers and ops live for minutes.
BEHIND_S = 60

# The best a broker of the kit announces; a lesser window is a slow one.
WINDOW_MIN = 10

_CHANGES: dict[str, dict[Make, str]] = {
    "anonymous": {
        Make.MOSQUITTO: "mosquitto.conf: allow_anonymous false; password_file, acl_file",
        Make.EMBEDDED: "demesh broker --passwords FILE",
        Make.RABBITMQ: "rabbitmq.conf: mqtt.allow_anonymous = false",
    },
    "rights": {
        Make.MOSQUITTO: "the file that acl_file names: configs/brokers/acl",
        Make.EMBEDDED: "demesh broker --passwords FILE, without --acl or with configs/brokers/acl",
        Make.RABBITMQ: "configs/brokers/rabbitmq/add-device {device}",
    },
    "packets": {
        Make.MOSQUITTO: "mosquitto.conf: max_packet_size 131072",
        Make.EMBEDDED: "broker.toml: [limits] packet_bytes_max = 262144",
    },
    "retained": {Make.MOSQUITTO: "mosquitto.conf: retain_available true"},
    "window": {
        Make.MOSQUITTO: "mosquitto.conf: max_inflight_messages 100",
        Make.RABBITMQ: "rabbitmq.conf: mqtt.prefetch = 100",
    },
    "nodelay": {
        Make.MOSQUITTO: "mosquitto.conf: set_tcp_nodelay true",
        Make.RABBITMQ: "rabbitmq.conf: mqtt.tcp_listen_options.nodelay = true",
    },
    "queue": {
        Make.MOSQUITTO: "mosquitto.conf: max_queued_messages 10000",
        Make.EMBEDDED: "broker.toml: [limits] queued_max = 4096",
        Make.RABBITMQ: "the policy for ^mqtt-subscription-: configs/brokers/rabbitmq/demesh.json",
    },
    "sessions": {
        Make.MOSQUITTO: "mosquitto.conf: persistent_client_expiration 1d",
        Make.RABBITMQ: "rabbitmq.conf: mqtt.subscription_ttl = 86400000",
    },
}
"""The line to change for each fault, by make of broker; any other: docs/brokers.md."""


def verdicts(facts: Facts, patient: Patient) -> tuple[Finding, ...]:
    """All there is to say about one broker, in the order in which one comes to it."""
    return tuple(finding for rule in _RULES for finding in rule(facts, patient))


def make_of(facts: Facts) -> Make:
    """By what it says itself; RabbitMQ 3.10 says nothing, and hangs up on MQTT 5."""
    for make in (Make.MOSQUITTO, Make.EMBEDDED):
        if facts.version.startswith(make.value):
            return make
    return Make.RABBITMQ if facts.hung_up_on_5 and facts.level == 4 else Make.OTHER


def _change(fault: str, facts: Facts, patient: Patient) -> str:
    lines = _CHANGES[fault]
    make = make_of(facts)
    if make in lines:
        return lines[make].format(device=patient.device)
    hint = (
        f"; mosquitto has {lines[Make.MOSQUITTO].partition(': ')[2]}" if make is Make.OTHER else ""
    )
    return f"docs/brokers.md has it for some brokers{hint}"


def _way(facts: Facts, patient: Patient) -> Iterator[Finding]:
    """Name, TCP, TLS and login, up to what fails."""
    stages = (Stage.NAME, Stage.TCP, Stage.TLS, Stage.LOGIN)
    for stage in stages if facts.failed is None else stages[: stages.index(facts.failed)]:
        if text := _good(stage, facts):
            yield Finding(Grade.OK, stage.value, text)
    if facts.failed is not None:
        grade = Grade.WRONG if facts.for_good else Grade.UNREACHABLE
        yield Finding(grade, facts.failed.value, facts.failure, _mend(facts, patient))


def _good(stage: Stage, facts: Facts) -> str:
    if stage is Stage.NAME:
        return ", ".join(facts.addresses)
    if stage is Stage.TCP:
        return f"open in {_ms(facts.connect_us)}"
    if stage is Stage.TLS:
        shown = facts.certificate
        if shown is None:
            return "by a shared key" if facts.tls else ""
        return f"{shown.version}; {shown.subject}, vouched for by {shown.issuer}"
    who = facts.username or ("the name in its certificate" if facts.certified else "nobody")
    level = "MQTT 5" if facts.level == 5 else "MQTT 3.1.1 (the broker does not speak 5)"
    said = f", {facts.version}" if facts.version else ""
    return f"as {who}; {level}{said}"


def _mend(facts: Facts, patient: Patient) -> str:
    if facts.failed is Stage.NAME:
        return "demesh.toml: [broker] url; or the name's entry in DNS or /etc/hosts"
    if facts.failed is Stage.TCP:
        return (
            "start it; a mosquitto without configuration listens on its own machine only: "
            "mosquitto.conf: listener 1883"
        )
    if facts.failed is Stage.TLS and not facts.for_good:
        return "demesh.toml: [broker] url, if this is not the broker's port for TLS"
    if facts.failed is Stage.LOGIN and facts.for_good:
        return (
            f"demesh.toml: [broker] username, password_file; or give {patient.device} "
            "its login at the broker (docs/brokers.md, Logins)"
        )
    if facts.failed is Stage.LOGIN:
        return "demesh.toml: [broker] url, if this is not the broker's port for MQTT"
    return ""


def _certificate(facts: Facts, _: Patient) -> Iterator[Finding]:
    shown = facts.certificate
    if shown is None or facts.failed is not None:
        return
    left = f"its certificate is good for {shown.days_left} more days"
    if shown.days_left < RENEW_DAYS:
        change = f"have {shown.issuer} renew it, then SIGHUP to the broker"
        yield Finding(Grade.WARNING, "tls", left, change)
    else:
        yield Finding(Grade.OK, "tls", left)


def _limits(facts: Facts, patient: Patient) -> Iterator[Finding]:
    if facts.failed is not None:
        return
    known = facts.welcome
    packet, window = known.get("MaximumPacketSize"), known.get("ReceiveMaximum", 65_535)
    if known.get("MaximumQoS", 2) < 1:
        yield Finding(Grade.WRONG, "limits", "it takes QoS 0 only; a mesh needs QoS 1")
    if packet is not None and packet < PACKET_BYTES_MIN:
        text = f"it takes packets of up to {packet} bytes; a block may need {PACKET_BYTES_MIN}"
        yield Finding(Grade.WRONG, "limits", text, _change("packets", facts, patient))
    if not known.get("RetainAvailable", 1):
        text = "it takes no retained messages; tips and cards are retained"
        yield Finding(Grade.WRONG, "limits", text, _change("retained", facts, patient))
    if window < WINDOW_MIN:
        text = f"it takes {window} messages at a time; a far line is slow with so few"
        yield Finding(Grade.WARNING, "limits", text, _change("window", facts, patient))
    if facts.level == 5:
        size = "any size" if packet is None else f"up to {packet} bytes"
        yield Finding(Grade.OK, "limits", f"packets of {size}, {window} at a time")


def _rights(facts: Facts, patient: Patient) -> Iterator[Finding]:
    if facts.failed is not None:
        return
    rights, change = facts.rights, _change("rights", facts, patient)
    if rights.unheard or rights.deaf:
        if rights.unheard:
            areas = ", ".join(rights.unheard)
            lines = [line for line in acl_lines() if any(f"/{a}/" in line for a in rights.unheard)]
            text = f"this device is not heard on its own topics: {areas}"
            yield Finding(Grade.WRONG, "rights", text, f"{change}; {_first(lines)}")
        if rights.deaf:
            text = f"this device may not listen to {', '.join(rights.deaf)}"
            yield Finding(Grade.WRONG, "rights", text, change)
        if facts.username not in (None, patient.device):
            text = f"rules by login fit if the login is the device's id, not {facts.username}"
            yield Finding(
                Grade.WARNING, "rights", text, f'demesh.toml: username = "{patient.device}"'
            )
    else:
        yield Finding(
            Grade.OK, "rights", "this device is heard on its own topics and hears the mesh"
        )
    yield from _others(facts, patient)


def _others(facts: Facts, patient: Patient) -> Iterator[Finding]:
    """What this login may do that is not its own."""
    rights, can = facts.rights, []
    if rights.spoofed:
        can.append(f"heard in other devices' names ({', '.join(rights.spoofed)})")
    if rights.overheard:
        can.append("given letters between others")
    if facts.anonymous:
        text = "everybody is let in without a login"
        text = " and ".join([text, *can] if facts.username is None else [text])
        yield Finding(Grade.WARNING, "login", text, _change("anonymous", facts, patient))
    if facts.username is None and facts.anonymous:
        return
    if can:
        text = f"this login is {' and '.join(can)}"
        yield Finding(Grade.WARNING, "rights", text, _change("rights", facts, patient))
    elif not rights.unheard:
        text = "it is not heard in others' names and hears no letters between others"
        yield Finding(Grade.OK, "rights", text)


def _pace(facts: Facts, patient: Patient) -> Iterator[Finding]:
    if facts.failed is not None:
        return
    trip = f"a round trip takes {_ms(facts.round_trip_us)}"
    if facts.second_us - facts.round_trip_us > HELD_US:
        text = f"{trip}, what follows at once {_ms(facts.second_us)}: TCP holds small messages back"
        yield Finding(Grade.WARNING, "pace", text, _change("nodelay", facts, patient))
    elif facts.round_trip_us > LAN_ROUND_TRIP_US and patient.profile == "lan":
        text = f"{trip}; consensus waits 250 ms for three of them"
        yield Finding(Grade.WARNING, "pace", text, 'demesh.toml: [mesh] profile = "wan"')
    else:
        yield Finding(Grade.OK, "pace", trip)


def _queue(facts: Facts, patient: Patient) -> Iterator[Finding]:
    if facts.failed is not None or facts.rights.unheard:
        return
    if facts.queue_kept >= min(facts.queue_tried, QUEUE_MIN):
        text = f"{facts.queue_kept} messages are kept for a device that is away"
        yield Finding(Grade.OK, "queue", text)
    else:
        text = (
            f"of {facts.queue_tried} messages {facts.queue_kept} are kept for a device that is "
            "away; it catches up by itself, which takes it longer"
        )
        yield Finding(Grade.WARNING, "queue", text, _change("queue", facts, patient))


def _retained(facts: Facts, patient: Patient) -> Iterator[Finding]:
    if facts.failed is not None or facts.rights.unheard:
        return
    if not facts.retained_at_all:
        text = "it keeps no retained messages: who starts hears of tips and offers late"
        yield Finding(Grade.WARNING, "retained", text, _change("retained", facts, patient))
        return
    if not facts.retained_by_wildcard:
        text = (
            "who asks by wildcard, as devices do, is given no retained messages: offers are heard "
            "when they are said again"
        )
        yield Finding(Grade.WARNING, "retained", text)
        return
    most = 2 * patient.members  # a tip and a card
    text = f"{facts.retained} of this mesh, at most {most} are expected"
    if facts.retained > most:
        change = (
            "take away those of devices that are no members: "
            f"mosquitto_pub -r -n -t demesh/1/{patient.mesh}/card/ID, and tip/ID"
        )
        yield Finding(Grade.WARNING, "retained", text, change)
    elif facts.retained > RETAINED_TRAP and facts.queue_kept < facts.retained:
        text = f"{text}, and more than one subscriber is given at once"
        yield Finding(Grade.WARNING, "retained", text, _change("queue", facts, patient))
    else:
        yield Finding(Grade.OK, "retained", text)


def _sessions(facts: Facts, patient: Patient) -> Iterator[Finding]:
    away = facts.numbers.get("clients/disconnected")
    if facts.failed is not None or away is None:
        return
    text = f"{away} sessions wait for clients that are away"
    if away > 2 * patient.members:
        text = f"{text}, in a mesh of {patient.members} devices"
        yield Finding(Grade.WARNING, "sessions", text, _change("sessions", facts, patient))
    else:
        yield Finding(Grade.OK, "sessions", text)


_RULES = (_way, _certificate, _limits, _rights, _pace, _queue, _retained, _sessions)


def crossing(url: str, other: str) -> Finding:
    """What is said at one broker is heard at another."""
    text = (
        f"what is said at {url} is heard at {other}: one broker by two names, a cluster or a "
        "bridge; every frame comes twice, and one lie may reach both"
    )
    return Finding(Grade.WARNING, "company", text, "demesh.toml: leave one [[broker]] out")


def clock(patient: Patient) -> Finding:
    """This machine's clock beside the mesh's, which is never ahead of the true time for long."""
    if patient.behind_s > BEHIND_S:
        text = f"this machine's clock is {patient.behind_s} s behind the mesh time on its disk"
        return Finding(Grade.WARNING, "clock", text, "timedatectl set-ntp true")
    return Finding(Grade.OK, "clock", "not behind the mesh time on this device's disk")


def _ms(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"


def _first(lines: list[str]) -> str:
    return lines[0] if lines else ""
