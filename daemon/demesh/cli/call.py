"""One connection to a broker for a tool that asks and waits: no thread, nothing behind one's back.

Everything happens within `wait`; what the broker did is there to be read afterwards.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from demesh.transport.client import Link
from demesh.transport.patience import REQUEST_S
from demesh.transport.reasons import Refused, UnansweredError

# How long a session outlives its connection where the tool asks for one: while it comes back.
SESSION_S = 60

# A call may stand open while others are at work.
KEEPALIVE_S = 60

# Of all that a broker says, asked or not: more than any mesh retains.
HEARD_BYTES_MAX = 64 * 1024 * 1024


class OverdueError(BaseException):
    """A broker takes more time than anybody has; the MQTT client would catch an Exception."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise OverdueError if this takes longer, wherever it is; in a program's main thread only.

    A broker can drip bytes, and say what takes the MQTT client hours to read.
    """

    def ring(*_: object) -> None:
        raise OverdueError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True, slots=True)
class Said:
    """A publication that came."""

    topic: str
    payload: bytes
    retain: bool


class Call:
    """A connection at MQTT 5 or 3.1.1; raises OSError where there is none or it ends too early."""

    def __init__(self, link: Link, client_id: str, *, level: int, lasting: bool = False) -> None:
        """`lasting`: go on with the session of this client id, and let the broker keep it after."""
        self.level = level
        self.heard: list[Said] = []
        self._heard_bytes = 0
        self.refused: dict[int, int] = {}  # packet id -> reason code
        self.welcome: Mapping[str, Any] = {}  # CONNACK's properties, MQTT 5
        self.open = True
        self._connack: ReasonCode | None = None
        self._acknowledged: set[int] = set()
        self._granted: dict[int, list[int]] = {}
        five = level == 5
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if five else not lasting,
            reconnect_on_failure=False,
        )
        client.connect_timeout = REQUEST_S
        client.max_inflight_messages_set(20)
        client.max_queued_messages_set(0)
        client.username_pw_set(link.username, link.password)
        if link.tls is not None:
            client.tls_set_context(link.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.connect(link.host, link.port, KEEPALIVE_S, **_first(five, lasting))
        if not isinstance(connection := client.socket(), socket.socket):
            raise UnansweredError("the broker hung up")  # before CONNECT was out
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.wait(lambda: self._connack is not None):
            raise TimeoutError if self.open else UnansweredError("the broker hung up")
        assert self._connack is not None
        if self._connack.is_failure:
            raise Refused(self._connack)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> int:
        """Say it; its packet id."""
        return self._client.publish(topic, payload, qos, retain).mid

    def acknowledged(self, packet_id: int) -> bool:
        """Wait for the answer to a publication; False if the connection ended instead."""
        return self.wait(lambda: packet_id in self._acknowledged)

    def subscribe(self, filters: Sequence[str], qos: int = 1) -> list[str]:
        """Those of the filters that were not granted; all of them if the connection ended."""
        _, packet_id = self._client.subscribe([(one, qos) for one in filters])
        if packet_id is None or not self.wait(lambda: packet_id in self._granted):
            return list(filters)
        codes = self._granted[packet_id]
        return [one for one, code in zip(filters, codes, strict=False) if code >= 0x80]

    def hears(self, topic: str, payload: bytes, seconds: float = REQUEST_S) -> bool:
        """Wait for a message."""
        return self.wait(
            lambda: any(m.topic == topic and m.payload == payload for m in self.heard), seconds
        )

    def wait(self, condition: Callable[[], bool], seconds: float = REQUEST_S) -> bool:
        """Do what is to be done until the condition holds; False after `seconds`, or at the end.

        Raises OSError if the broker talks nonsense.
        """
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0 or not self.open:
                return False
            try:
                self._client.loop(min(left, 1.0))
            except OSError:
                raise
            except Exception:  # noqa: BLE001 - none of our code runs in paho but the callbacks
                raise ConnectionError("what it sends is not MQTT") from None
        return True

    def close(self) -> None:
        """Say goodbye."""
        if self.open:
            self._client.disconnect()

    def _on_connect(self, _: Any, __: Any, ___: Any, reason: ReasonCode, given: Any) -> None:
        self._connack = reason
        self.welcome = {} if given is None else given.json()

    def _on_disconnect(self, *_: Any) -> None:
        self.open = False

    def _on_message(self, _: Any, __: Any, message: MQTTMessage) -> None:
        said = Said(_topic(message), bytes(message.payload), message.retain)
        self._heard_bytes += len(said.topic) + len(said.payload)
        if self._heard_bytes <= HEARD_BYTES_MAX:
            self.heard.append(said)

    def _on_publish(self, _: Any, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        self._acknowledged.add(mid)
        if reason.is_failure:
            self.refused[mid] = reason.value

    def _on_subscribe(self, _: Any, __: Any, mid: int, codes: list[ReasonCode], ___: Any) -> None:
        self._granted[mid] = [code.value for code in codes]


def _topic(message: MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""  # it is no topic of anybody's


def _first(five: bool, lasting: bool) -> dict[str, Any]:
    """What MQTT 5 says in CONNECT beside the rest."""
    if not five:
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    if lasting:
        properties.SessionExpiryInterval = SESSION_S
    return {"clean_start": not lasting, "properties": properties}
