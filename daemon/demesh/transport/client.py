"""The aiomqtt client as we want it: one address, a persistent session, no queue of its own."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiomqtt

from demesh.errors import ConfigError
from demesh.ports import Received

# Without it, Nagle against delayed acknowledgements makes a QoS 1 round trip 44 ms instead of 1.
SOCKET_OPTIONS = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)

# One and a half of it in silence and the broker publishes our will: a dead board is known in 30 s.
KEEPALIVE_S = 20

# CONNECT, SUBSCRIBE and PUBLISH each; poor Wi-Fi stalls for seconds, a dead broker for ever.
REQUEST_S = 10.0

# CONNACK refusals that no waiting mends (MQTT 5 codes, to which paho maps those of 3.1.1).
LOGIN_REFUSED = (134, 135)

_QUIET = logging.getLogger("demesh.mqtt")
_QUIET.setLevel(logging.CRITICAL)  # the transport reports in its own words


@dataclass(frozen=True, slots=True)
class Link:
    """How to reach a broker and what to say first. `wait_s`: see `config.BrokerSection`."""

    host: str
    port: int
    url: str
    client_id: str
    subscriptions: tuple[str, ...]
    will: tuple[str, bytes] | None = None
    username: str | None = None
    password: str | None = None
    wait_s: int = 30
    broker: int = 0


def new_client(link: Link, deliver: Callable[[Received], None], calls_max: int) -> aiomqtt.Client:
    """A client that hands each message to `deliver` at once, on the loop's thread."""

    class Funnel(asyncio.Queue[aiomqtt.Message]):
        """In the place of aiomqtt's queue, which is unbounded, or loses acknowledged messages."""

        def put_nowait(self, item: aiomqtt.Message) -> None:
            assert isinstance(item.payload, bytes)
            deliver(Received(item.topic.value, item.payload, item.retain, link.broker))

    client = aiomqtt.Client(
        link.host,
        link.port,
        username=link.username,
        password=link.password,
        identifier=link.client_id,
        clean_session=False,
        will=aiomqtt.Will(*link.will, qos=1) if link.will else None,
        keepalive=KEEPALIVE_S,
        timeout=REQUEST_S,
        queue_type=Funnel,
        socket_options=SOCKET_OPTIONS,
        logger=_QUIET,
    )
    client.pending_calls_threshold = calls_max
    return client


def reason_of(error: aiomqtt.MqttError) -> str:
    """What went wrong, without the number in front ("[Errno 111] Connection refused")."""
    return re.sub(r"^\[[^]]*\] ", "", str(error))


def check_login(link: Link, error: aiomqtt.MqttError) -> None:
    """Raises ConfigError if the broker refused name and password: no waiting mends that."""
    if isinstance(error, aiomqtt.MqttCodeError) and value_of(error.rc) in LOGIN_REFUSED:
        raise ConfigError(
            f"{link.url}: the broker refused the login; check [broker] username, password_file"
        ) from None


def value_of(code: Any) -> int:
    """paho gives reason codes as objects or as plain integers, by version and packet."""
    return int(getattr(code, "value", -1 if code is None else code))
