"""Finding out about a broker by using it: as this device, and as a device that is somebody else.

What is published goes into a mesh that is nobody's, so no daemon hears or counts any of it. In this
device's own mesh the doctor only listens.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from demesh.cli.call import Call, OverdueError, within
from demesh.cli.facts import Certificate, Facts, Rights, Stage
from demesh.transport.client import Link
from demesh.transport.patience import REQUEST_S
from demesh.transport.reasons import (
    LEVEL_REFUSED,
    LOGIN_REFUSED,
    Refused,
    UnansweredError,
    reason_of,
)
from demesh.wire import identity
from demesh.wire.topics import Topics

NOBODYS_MESH = hashlib.blake2b(b"demesh doctor", digest_size=32).digest()

AREAS = ("vote", "op", "tip", "card", "gone")

# Enough to see a pattern in; with a delay of 40 ms they take a second.
ROUNDS = 15

# More than what mosquitto keeps by default, 1,000. At 1,000 a second, as fast as the embedded
# broker reads one client, it takes two seconds.
QUEUE_MESSAGES = 1_500
QUEUE_S = 15

# A broker that has nothing more to say has said it by then, on any line; and one that always has
# more to say is heard no longer than this.
QUIET_S = 1.0
TALK_S = 30.0

# All about one broker, or all brokers beside one another: a good one takes twenty seconds of it.
EXAMINE_S = 120.0

# A number of a broker's own; more digits are none.
DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Device:
    """Who asks: id and mesh id in bytes."""

    id: bytes
    mesh_id: bytes

    @property
    def somebody(self) -> bytes:
        """The id of a device that does not exist."""
        return hashlib.blake2b(b"demesh doctor" + self.id, digest_size=16).digest()

    def client_id(self, purpose: str = "") -> str:
        """One that begins with the login, for brokers that bind the one to the other."""
        return f"{identity.text(self.id)}-doctor-{purpose or os.urandom(3).hex()}"


def examine(link: Link, device: Device, *, certified: bool = False) -> Facts:
    """All about one broker; raises nothing that a broker can cause.

    `certified`: TLS says who this device is, so there is no coming without a login.
    """
    facts = Facts(link.url, link.username, certified, tls=link.tls is not None)
    try:
        with within(EXAMINE_S):
            facts = _reach(link, facts)
            if facts.failed is None:
                facts = _greet(link, device, facts)
            if facts.failed is None:
                for look in (_stranger, _status, _rights, _pace):
                    facts = look(link, device, facts)
            # Without rights it would tell nothing.
            if facts.failed is None and not facts.rights.unheard:
                for look in (_retained, _queue):
                    facts = look(link, device, facts)
    except OSError as error:  # it was there a moment ago
        return replace(facts, failed=Stage.TCP, failure=f"lost: {reason_of(error)}")
    except OverdueError:
        failure = f"it keeps everybody waiting: not done with it in {EXAMINE_S:.0f} s"
        return replace(facts, failed=Stage.TCP, failure=failure)
    return facts


def _reach(link: Link, facts: Facts) -> Facts:
    """Name, TCP and TLS, without a word of MQTT."""
    try:
        found = socket.getaddrinfo(link.host, link.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return replace(facts, failed=Stage.NAME, failure=reason_of(error))
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
    facts = replace(facts, addresses=addresses)
    began = time.perf_counter_ns()
    try:
        plain = socket.create_connection((link.host, link.port), REQUEST_S)
    except OSError as error:
        return replace(facts, failed=Stage.TCP, failure=reason_of(error))
    with plain:
        facts = replace(facts, connect_us=(time.perf_counter_ns() - began) // 1000)
        if link.tls is None:
            return facts
        try:
            with link.tls.wrap_socket(plain, server_hostname=link.host) as secured:
                return replace(facts, certificate=_certificate(secured))
        except OSError as error:
            for_good = isinstance(error, ssl.SSLError)
            return replace(facts, failed=Stage.TLS, failure=reason_of(error), for_good=for_good)


def _certificate(connection: ssl.SSLSocket) -> Certificate | None:
    """None with a shared key: there is no certificate."""
    shown = connection.getpeercert()
    if not shown:
        return None
    expires_s = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    return Certificate(
        connection.version() or "TLS",
        _common_name(shown.get("subject")),
        _common_name(shown.get("issuer")),
        int(expires_s - time.time()) // 86_400,
    )


def _common_name(parts: Any) -> str:
    """Of a name as the ssl module shows it: tuples of pairs."""
    pairs = dict(pair for part in parts or () for pair in part)
    return str(pairs.get("commonName", "somebody without a name"))


def _greet(link: Link, device: Device, facts: Facts) -> Facts:
    """The login, at the highest level of MQTT that the broker speaks."""
    hung_up = False
    for level in (5, 4):
        try:
            call = Call(link, device.client_id(), level=level)
        except Refused as error:
            if level == 5 and error.code == LEVEL_REFUSED:
                continue
            for_good = error.code in LOGIN_REFUSED
            return replace(facts, failed=Stage.LOGIN, failure=reason_of(error), for_good=for_good)
        except UnansweredError as error:
            hung_up = True
            if level == 5:
                continue
            if objection := _objection(link):
                return replace(facts, failed=Stage.TLS, failure=objection, for_good=True)
            return replace(facts, failed=Stage.LOGIN, failure=reason_of(error))
        except OSError as error:
            return replace(facts, failed=Stage.LOGIN, failure=reason_of(error))
        call.close()
        return replace(facts, level=level, hung_up_on_5=hung_up, welcome=call.welcome)
    raise AssertionError("the last level either answers or fails")


def _objection(link: Link) -> str:
    """What a broker that hangs up has against this device's certificate, or its absence; or "".

    With TLS 1.3 it says so after the handshake (RFC 8446, 4.4.2.4), where the MQTT client does not
    look.
    """
    if link.tls is None:
        return ""
    try:
        with (
            socket.create_connection((link.host, link.port), REQUEST_S) as plain,
            link.tls.wrap_socket(plain, server_hostname=link.host) as secured,
        ):
            secured.recv(1)
    except ssl.SSLError as error:
        return reason_of(error)
    except OSError:
        return ""
    return ""


def _stranger(link: Link, device: Device, facts: Facts) -> Facts:
    """Is somebody without a login let in?"""
    if facts.certified:
        return facts
    try:
        nobody = replace(link, username=None, password=None)
        call = Call(nobody, f"doctor-{os.urandom(3).hex()}", level=facts.level)
    except OSError:
        return facts
    call.close()
    return replace(facts, anonymous=True)


def _status(link: Link, device: Device, facts: Facts) -> Facts:
    """What the broker says of itself, if we may hear it."""
    call = Call(link, device.client_id(), level=facts.level)
    if call.subscribe(["$SYS/broker/#"], qos=0):
        call.close()
        return facts
    _until_quiet(call)
    call.close()
    said = {m.topic.removeprefix("$SYS/broker/"): m.payload for m in call.heard}
    numbers = {
        topic: int(text)
        for topic, text in said.items()
        if text.isdigit() and len(text) <= DIGITS_MAX
    }
    version = said.get("version", b"").decode("utf-8", "replace")
    return replace(facts, version=version, numbers=numbers)


def _rights(link: Link, device: Device, facts: Facts) -> Facts:
    """May it say and hear what is its own, and nothing else?"""
    here = Topics(NOBODYS_MESH, device.id)
    there = Topics(NOBODYS_MESH, device.somebody)
    word = os.urandom(8).hex().encode()
    call = Call(link, device.client_id(), level=facts.level)
    deaf = tuple(call.subscribe(Topics(device.mesh_id, device.id).filters))
    call.close()
    ear = Call(link, device.client_id(), level=facts.level)
    ear.subscribe(here.filters)
    eavesdropper = Call(link, device.client_id(), level=facts.level)
    eavesdropper.subscribe([f"{there.to(device.somebody).rpartition('/')[0]}/+"])
    mouth = _Mouth(link, device, facts.level)

    own = {**{area: here.mine(area) for area in AREAS}, "to": here.to(device.id)}
    silent = [area for area, topic in own.items() if not mouth.says(topic, word)]
    # People who watch all meshes see this one; they expect JSON with a name.
    if not mouth.says(here.observation("event"), b'{"name": "doctor", "text": "looks"}'):
        silent.append("obs")
    unheard = [
        area for area in own if area not in silent and not ear.hears(own[area], word, QUIET_S)
    ]

    others = {**{area: there.mine(area) for area in AREAS}, "to": there.to(device.id)}
    for topic in others.values():
        mouth.says(topic, word)
    letter = here.to(device.somebody)
    mouth.says(letter, word)
    _until_quiet(ear, eavesdropper)
    spoofed = [area for area, topic in others.items() if any(m.topic == topic for m in ear.heard)]
    overheard = any(m.topic == letter for m in eavesdropper.heard)
    for one in (ear, eavesdropper, mouth):
        one.close()
    rights = Rights((*silent, *unheard), deaf, tuple(spoofed), overheard)
    return replace(facts, rights=rights)


class _Mouth:
    """Says one thing after another, also at brokers that hang up on who says too much."""

    def __init__(self, link: Link, device: Device, level: int) -> None:
        self._open: Callable[[], Call] = lambda: Call(link, device.client_id(), level=level)
        self._call = self._open()

    def says(self, topic: str, payload: bytes) -> bool:
        """Whether the broker took it, as far as it says so."""
        if not self._call.open:
            self._call = self._open()
        packet_id = self._call.publish(topic, payload)
        return self._call.acknowledged(packet_id) and packet_id not in self._call.refused

    def close(self) -> None:
        self._call.close()


def _pace(link: Link, device: Device, facts: Facts) -> Facts:
    """Round trips, and the message that follows one: without TCP_NODELAY it waits for 40 ms.

    The broker has sent an acknowledgement, to which nobody answers at once; Nagle's algorithm holds
    the next small segment until the system's delayed acknowledgement of the first.
    """
    topics = Topics(NOBODYS_MESH, device.id)
    topic, elsewhere = topics.to(device.id), topics.mine("op")
    ear = Call(link, device.client_id(), level=facts.level)
    mouth = Call(link, device.client_id(), level=facts.level)
    ear.subscribe([topic], qos=0)
    trips, seconds = [], []
    for number in range(ROUNDS):
        began = time.perf_counter_ns()
        if not ear.acknowledged(ear.publish(elsewhere, b"")):
            break  # it answers nothing: said elsewhere
        trips.append(time.perf_counter_ns() - began)
        began = time.perf_counter_ns()
        mouth.publish(topic, b"%d" % number)
        if not ear.hears(topic, b"%d" % number):
            break  # no right to it: said elsewhere
        seconds.append(time.perf_counter_ns() - began)
    for one in (ear, mouth):
        one.close()
    return replace(facts, round_trip_us=_middle_us(trips), second_us=_middle_us(seconds))


def _middle_us(values_ns: list[int]) -> int:
    return int(statistics.median(values_ns)) // 1000 if values_ns else 0


def _retained(link: Link, device: Device, facts: Facts) -> Facts:
    """Does it keep retained messages, who gets them, and how many are there of our mesh?"""
    topics = Topics(NOBODYS_MESH, device.id)
    card, any_card = topics.mine("card"), topics.filters[AREAS.index("card")]
    mouth = Call(link, device.client_id(), level=facts.level)
    mouth.acknowledged(mouth.publish(card, b"doctor", retain=True))
    found = []
    for filter in (any_card, card):
        ear = Call(link, device.client_id(), level=facts.level)
        ear.subscribe([filter])
        found.append(ear.hears(card, b"doctor", QUIET_S))
        ear.close()
    if mouth.open:
        mouth.acknowledged(mouth.publish(card, b"", retain=True))
    mouth.close()
    ear = Call(link, device.client_id(), level=facts.level)
    filters = Topics(device.mesh_id, device.id).filters
    ear.subscribe([filters[AREAS.index(area)] for area in ("tip", "card")], qos=0)
    _until_quiet(ear)
    ear.close()
    count = len({message.topic for message in ear.heard if message.retain})
    return replace(
        facts,
        retained_by_wildcard=found[0],
        retained_at_all=any(found),
        retained=count,
    )


def _queue(link: Link, device: Device, facts: Facts) -> Facts:
    """How much does it keep for a device that is away?"""
    topic, name = Topics(NOBODYS_MESH, device.id).to(device.id), device.client_id("away")

    def called(*, lasting: bool) -> Call:
        return Call(link, name, level=facts.level, lasting=lasting)

    called(lasting=False).close()  # what a doctor before us may have left
    away = called(lasting=True)
    away.subscribe([topic])
    away.close()
    mouth = Call(link, device.client_id(), level=facts.level)
    end, said = time.monotonic() + QUEUE_S, 0
    while said < QUEUE_MESSAGES and time.monotonic() < end and mouth.open:
        ids = [mouth.publish(topic, b"%d" % number) for number in range(said, said + 100)]
        if not all(mouth.acknowledged(one) for one in ids):
            break
        said += len(ids)
    mouth.close()
    back = called(lasting=True)
    back.wait(lambda: len(back.heard) >= said)
    kept = len({message.payload for message in back.heard})
    back.close()
    called(lasting=False).close()
    return replace(facts, queue_tried=said, queue_kept=min(kept, said))


def _until_quiet(*calls: Call) -> None:
    """Hear all that comes until nothing has come for a while."""
    end = time.monotonic() + TALK_S
    for call in calls:
        count = -1
        while count < len(call.heard) and time.monotonic() < end:
            count = len(call.heard)
            call.wait(lambda: False, QUIET_S)


def crossings(brokers: Sequence[tuple[Link, int]], device: Device) -> list[tuple[str, str]]:
    """Urls of which the second hears what is said at the first, each pair once.

    `brokers`: with the level of MQTT that each speaks.
    """
    found: list[tuple[str, str]] = []
    try:
        with within(EXAMINE_S):
            _cross(brokers, device, found)
    except (OSError, OverdueError):  # what was found until then is true
        pass
    return found


def _cross(
    brokers: Sequence[tuple[Link, int]], device: Device, found: list[tuple[str, str]]
) -> None:
    topic = Topics(NOBODYS_MESH, device.id).to(device.id)
    ears = {link.url: Call(link, device.client_id(), level=level) for link, level in brokers}
    for ear in ears.values():
        ear.subscribe([topic])
    for url, ear in ears.items():
        word = os.urandom(8).hex().encode()
        ear.publish(topic, word)
        ear.hears(topic, word)
        others = [other for other in ears if other != url and (other, url) not in found]
        found += [(url, other) for other in others if ears[other].hears(topic, word, QUIET_S)]
    for ear in ears.values():
        ear.close()
