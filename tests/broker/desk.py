"""A broker and the time, with fewer words: clients of both levels, what each gets, and a store."""

from __future__ import annotations

from dataclasses import replace

from demesh.broker.access import Access
from demesh.broker.codec import (
    GRANTED,
    LEVEL_5,
    Code,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Wanted,
)
from demesh.broker.limits import Limits
from demesh.broker.machine import Broker, Close, Effect, Transmit
from demesh.broker.saved import (
    Changes,
    RetainedRecord,
    Saved,
    SavedSession,
    SessionRecord,
    Waiting,
    pack,
    unpack,
)

A, B, C, D = 1, 2, 3, 4
HOUR_S = 3600


RICH = Properties(
    payload_format=1,
    content_type="text/plain",
    response_topic="answers/7",
    correlation_data=b"7",
    user=(("b", "1"), ("a", "2"), ("b", "1")),
)


def expiring(seconds: int) -> Properties:
    return Properties(message_expiry_s=seconds)


class Desk:
    """One broker. Connections are numbers; `join` greets at MQTT 5 unless told otherwise."""

    def __init__(
        self,
        access: Access | None = None,
        saved: Saved | None = None,
        now: int = 0,
        **changes: object,
    ) -> None:
        self.now = now
        limits = replace(Limits(), **changes)  # type: ignore[arg-type]
        self.broker = Broker(limits, self.now, access, saved)
        self.counters = self.broker.counters

    def open(self, conn: int, origin: str = "") -> list[Effect]:
        return self.broker.connected(conn, self.now, origin)

    def say(self, conn: int, *packets: Packet | Malformed) -> list[Effect]:
        return [e for packet in packets for e in self.broker.receive(conn, packet, self.now)]

    def join(
        self,
        conn: int,
        client_id: str = "",
        *,
        level: int = LEVEL_5,
        origin: str = "",
        session_s: int | None = None,
        properties: Properties | None = None,
        **fields: object,
    ) -> list[Effect]:
        """Connect; `session_s`: the session's expiry, with which it is not a clean start."""
        if session_s is not None:
            properties = replace(properties or Properties(), session_expiry_s=session_s)
            fields.setdefault("clean_start", False)
        connect = Connect(client_id, level=level, properties=properties, **fields)  # type: ignore[arg-type]
        return self.open(conn, origin) + self.say(conn, connect)

    def lose(self, conn: int) -> list[Effect]:
        return self.broker.disconnected(conn, self.now)

    def subscribe(self, conn: int, *wanted: Wanted | str, ident: int | None = None) -> list[Packet]:
        """Subscribe, which must be granted; the retained messages that came for it."""
        filters = tuple(one if isinstance(one, Wanted) else Wanted(one, 2) for one in wanted)
        properties = None if ident is None else Properties(subscription_ids=(ident,))
        answer, *rest = sent_to(conn, self.say(conn, Subscribe(1, filters, properties)))
        assert answer == Suback(1, tuple(GRANTED[one.qos] for one in filters))
        return rest

    def wait(self, span: int) -> list[Effect]:
        """Let time pass, looking at every deadline on the way."""
        end = self.now + span
        effects: list[Effect] = []
        while (at := self.broker.deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            effects += self.broker.tick(self.now)
        self.now = end
        return effects


def sent_to(conn: int, effects: list[Effect]) -> list[Packet]:
    return [e.packet for e in effects if isinstance(e, Transmit) and e.conn == conn]


def messages_to(conn: int, effects: list[Effect]) -> list[Publish]:
    return [packet for packet in sent_to(conn, effects) if isinstance(packet, Publish)]


def code_of(conn: int, effects: list[Effect]) -> Code:
    """What a CONNACK or DISCONNECT that ended the connection says; it is the last word."""
    assert isinstance(effects[-1], Close), effects
    last = sent_to(conn, effects)[-1]
    assert isinstance(last, Connack | Disconnect)
    return last.code


def code_of_puback(desk: Desk, conn: int, topic: str) -> Code:
    """How a message of QoS 1 is acknowledged."""
    (answer,) = (
        packet
        for packet in sent_to(conn, desk.say(conn, Publish(topic, b"x", 1, packet_id=77)))
        if isinstance(packet, Puback)
    )
    return answer.code


class Shelf:
    """A store of the simplest kind: it does to its tables what `Changes` says, in bytes."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionRecord] = {}
        self.queues: dict[str, dict[int, tuple[bytes, int | None]]] = {}
        self.retained: dict[str, tuple[bytes, int | None, str]] = {}

    def write(self, changes: Changes) -> None:
        for client_id in changes.ended:
            del self.sessions[client_id], self.queues[client_id]
        for change in changes.sessions:
            client_id = change.record.client_id
            self.sessions[client_id] = change.record
            queue = self.queues.setdefault(client_id, {})
            for number in [number for number in queue if number < change.first]:
                del queue[number]
            for entry in change.appended:
                assert entry.number not in queue, "a row is added once"
                queue[entry.number] = pack(entry.message), entry.expires_at
        for topic in changes.unretained:
            self.retained.pop(topic, None)
        for record in changes.retained:
            self.retained[record.message.topic] = (
                pack(record.message),
                record.expires_at,
                record.publisher,
            )

    def read(self) -> Saved:
        sessions = []
        for client_id, record in self.sessions.items():
            queue = tuple(
                Waiting(number, whole(data), expires_at)
                for number, (data, expires_at) in sorted(self.queues[client_id].items())
            )
            sessions.append(SavedSession(record, queue))
        retained = tuple(
            RetainedRecord(whole(data), expires_at, publisher)
            for data, expires_at, publisher in self.retained.values()
        )
        return Saved(tuple(sessions), retained)


def whole(data: bytes) -> Publish:
    message = unpack(data)
    assert message is not None
    return message
