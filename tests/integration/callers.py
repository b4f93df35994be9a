"""Clients that say what they are told to and learn what became of it; spoofs that must fail."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from demesh.wire import identity
from demesh.wire.topics import VIEWER, Topics
from integration.kit import Door

PATIENCE_S = 15
MESH = bytes(range(32))
AREAS = ("vote", "op", "tip", "card", "gone")


class Answer(Enum):
    """What a broker did with what it was sent."""

    TAKEN = "acknowledged"
    REFUSED = "answered with a reason code"
    CLOSED = "answered by ending the connection"


class Caller:
    """One connection, or the attempt at one: `login` None is anonymous."""

    def __init__(
        self,
        door: Door,
        login: str | None,
        *,
        password: str | None = None,
        client_id: str | None = None,
        will: str | None = None,
        clean: bool = True,
        tls: ssl.SSLContext | None = None,
        level: int | None = None,
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.refusal: ReasonCode | None = None  # of CONNECT
        self.connected = self.closed = False
        self.session_present = False
        self._answers: dict[int, Answer] = {}
        self._granted: dict[int, list[ReasonCode]] = {}
        self._change = threading.Condition()
        five = (level or door.level) == 5
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id or f"{login or 'nobody'}-{id(self)}",
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if five else clean,
            reconnect_on_failure=False,
        )
        if login is not None:
            client.username_pw_set(login, password or door.passwords.get(login))
        if will is not None:
            client.will_set(will, b"spoof", qos=1)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        properties = Properties(1) if five else None  # of CONNECT
        if properties is not None and not clean:
            properties.SessionExpiryInterval = 60
        self._first: dict[str, Any] = {"properties": properties}
        if five:
            self._first["clean_start"] = clean
        try:
            client.connect(door.host, door.port, 20, **self._first)
        except OSError:
            self.closed = True
            return
        client.loop_start()
        self.until(lambda: self.connected or self.closed or self.refusal is not None, "CONNACK")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> Answer:
        """Publish at QoS 1; the broker's answer."""
        sent = self._client.publish(topic, payload, 1, retain)
        self.until(lambda: sent.mid in self._answers or self.closed, "an answer to PUBLISH")
        return self._answers.get(sent.mid, Answer.CLOSED)

    def subscribe(self, *filters: str) -> Answer:
        """Subscribe to all at once, at QoS 1; TAKEN if each was granted."""
        _, packet_id = self._client.subscribe([(one, 1) for one in filters])
        self.until(lambda: packet_id in self._granted or self.closed, "an answer to SUBSCRIBE")
        codes = self._granted.get(packet_id)  # type: ignore[arg-type]
        if codes is None:
            return Answer.CLOSED
        return Answer.REFUSED if any(code.is_failure for code in codes) else Answer.TAKEN

    def hears(self, topic: str, payload: bytes) -> bool:
        """Wait for a message; whether it came."""
        return self._waited(lambda: (topic, payload) in self.heard)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        assert self._waited(condition), f"not seen: {what}"

    def cut(self) -> None:
        """The connection ends without goodbye: a broker publishes the will."""
        connection = self._client.socket()
        assert connection is not None
        connection.shutdown(socket.SHUT_RDWR)
        self.until(lambda: self.closed, "the end of the connection")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _waited(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + PATIENCE_S
        with self._change:
            return self._change.wait_for(condition, end - time.monotonic())

    def _on_connect(self, _: Any, __: Any, flags: Any, reason: ReasonCode, ___: Any) -> None:
        with self._change:
            if reason.is_failure:
                self.refusal = reason
            else:
                self.connected, self.session_present = True, flags.session_present
            self._change.notify_all()

    def _on_disconnect(self, *_: Any) -> None:
        with self._change:
            self.closed = True
            self._change.notify_all()

    def _on_message(self, _: Any, __: Any, message: paho.MQTTMessage) -> None:
        with self._change:
            self.heard.append((message.topic, message.payload))
            self._change.notify_all()

    def _on_publish(self, _: Any, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        with self._change:
            self._answers[mid] = Answer.REFUSED if reason.is_failure else Answer.TAKEN
            self._change.notify_all()

    def _on_subscribe(self, _: Any, __: Any, mid: int, codes: list[ReasonCode], ___: Any) -> None:
        with self._change:
            self._granted[mid] = codes
            self._change.notify_all()


@contextmanager
def calling(door: Door, login: str | None, **options: Any) -> Iterator[Caller]:
    """A caller, gone afterwards."""
    caller = Caller(door, login, **options)
    try:
        yield caller
    finally:
        caller.close()


def spoken_by(device: str, to: str) -> dict[str, str]:
    """A topic of each area that belongs to `device`, by area; what it says to one goes `to` it."""
    topics = Topics(MESH, identity.parse(device))
    return {
        **{area: topics.mine(area) for area in AREAS},
        "to": topics.to(identity.parse(to)),
        "obs": topics.observation("state"),
    }


SPOOFS = (*AREAS, "to", "obs")


@contextmanager
def listening(door: Door, carol: str) -> Iterator[tuple[Caller, Caller]]:
    """Carol with all that a device subscribes to, and somebody who looks at what is for people."""
    with calling(door, carol) as device, calling(door, VIEWER) as people:
        assert device.subscribe(*Topics(MESH, identity.parse(carol)).filters) is Answer.TAKEN
        assert people.subscribe("demesh/1/+/obs/#") is Answer.TAKEN
        yield device, people


def check_spoof(door: Door, area: str, anna: str, boris: str, carol: str) -> Answer:
    """Anna speaks on Boris' topic and is not heard, Boris is heard; what Anna was told."""
    topic = spoken_by(boris, carol)[area]
    with listening(door, carol) as (device, people), calling(door, boris) as true:
        with calling(door, anna) as false:
            told = false.publish(topic, b"spoof")
        assert true.publish(topic, b"true") is Answer.TAKEN
        listener = people if area == "obs" else device
        assert listener.hears(topic, b"true")
        assert (topic, b"spoof") not in [*device.heard, *people.heard]
    return told


def check_retained_spoof(door: Door, anna: str, boris: str, carol: str) -> None:
    """Anna leaves a retained message in Boris' name, and takes his away: neither happens."""
    topic = spoken_by(boris, carol)["tip"]
    with calling(door, boris) as true:
        assert true.publish(topic, b"true", retain=True) is Answer.TAKEN
    for payload in (b"spoof", b""):
        with calling(door, anna) as false:
            false.publish(topic, payload, retain=True)
    with calling(door, carol) as device:
        assert device.subscribe(topic) is Answer.TAKEN
        assert device.hears(topic, b"true")
        assert (topic, b"spoof") not in device.heard


def check_will_spoof(door: Door, anna: str, boris: str, carol: str) -> bool:
    """Anna's last word in Boris' name is not said, her own is; whether she was let in with it."""
    topics, own = spoken_by(boris, carol), spoken_by(anna, carol)["gone"]
    with listening(door, carol) as (device, _):
        with calling(door, anna, will=topics["gone"]) as false:
            let_in = false.connected
            if let_in:
                false.cut()
        with calling(door, anna, will=own) as honest:
            honest.cut()
            assert device.hears(own, b"spoof")
        assert (topics["gone"], b"spoof") not in device.heard
    return let_in


def check_letters(door: Door, anna: str, boris: str, carol: str) -> set[Answer]:
    """Carol's letters to Boris reach Boris alone, however Anna asks for them; her answers."""
    topic = spoken_by(carol, boris)["to"]
    mesh, to = topic.split("/")[2], f"{topic.rsplit('/', 1)[0]}/+"
    answers = set()
    eavesdroppers = []
    try:
        for filter in (topic, to, f"demesh/1/{mesh}/to/+/+", f"demesh/1/{mesh}/#", "demesh/#", "#"):
            for login in (anna, VIEWER):
                eavesdroppers.append(Caller(door, login))
                answers.add(eavesdroppers[-1].subscribe(filter))
        with calling(door, boris) as receiver, calling(door, carol) as sender:
            assert receiver.subscribe(to) is Answer.TAKEN
            assert sender.publish(topic, b"letter") is Answer.TAKEN
            assert receiver.hears(topic, b"letter")
            for caller in eavesdroppers:
                caller.subscribe(f"demesh/1/{mesh}/card/+")  # whatever comes has come by then
                assert (topic, b"letter") not in caller.heard
    finally:
        for caller in eavesdroppers:
            caller.close()
    return answers


def check_take_over(door: Door, anna: str, boris: str, carol: str) -> tuple[bool, bool]:
    """Anna connects with Boris' client id and hears none of his letters.

    Whether she was let in, and whether that ended his connection.
    """
    letters, topic = Topics(MESH, identity.parse(boris)).filters[-1], spoken_by(carol, boris)["to"]
    with calling(door, boris, client_id=boris, clean=False) as victim:
        assert victim.subscribe(letters) is Answer.TAKEN
        with (
            calling(door, anna, client_id=boris, clean=False) as thief,
            calling(door, carol) as sender,
        ):
            assert sender.publish(topic, b"letter") is Answer.TAKEN
            with calling(door, boris, client_id=f"{boris}-again") as receiver:
                assert receiver.subscribe(letters) is Answer.TAKEN
                assert sender.publish(topic, b"after") is Answer.TAKEN
                assert receiver.hears(topic, b"after")
            if thief.connected and not thief.closed:
                thief.subscribe(spoken_by(boris, carol)["card"])
            assert not any(heard == topic for heard, _ in thief.heard)
            return thief.connected, victim.closed
