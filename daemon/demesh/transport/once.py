"""One publication over a connection of its own, for tools that have one thing to say."""

from __future__ import annotations

import asyncio
from typing import Any

import aiomqtt

from demesh.errors import TemporaryError
from demesh.ports import Publish
from demesh.transport.client import REQUEST_S, SOCKET_OPTIONS, Link, check_login, reason_of


async def publish_once(link: Link, publish: Publish) -> None:
    """Connect, publish, have it acknowledged, leave; raises TemporaryError, ConfigError."""
    try:
        async with (
            asyncio.timeout(2 * REQUEST_S),
            aiomqtt.Client(
                link.host,
                link.port,
                username=link.username,
                password=link.password,
                identifier=link.client_id,
                timeout=REQUEST_S,
                socket_options=SOCKET_OPTIONS,
            ) as client,
        ):
            await client.publish(publish.topic, publish.payload, publish.qos, publish.retain)
    except aiomqtt.MqttError as error:
        if isinstance(error, aiomqtt.MqttCodeError):
            check_login(link, _value_of(error.rc))
        raise TemporaryError(f"{link.url}: no broker: {reason_of(error)}; is it running?") from None
    except TimeoutError:
        raise TemporaryError(f"{link.url}: the broker does not answer; try again later") from None


def _value_of(code: Any) -> int:
    """paho gives reason codes as objects or as plain integers, by version and packet."""
    return int(getattr(code, "value", -1 if code is None else code))
