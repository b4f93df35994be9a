"""What may lie between a connection's bytes and MQTT's: TLS and WebSocket, behind one port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

CLOSED = "closed by the client"
"""Why a layer ended that did nothing wrong."""


class Layer(Protocol):
    """TLS or WebSocket as a pure state: bytes in, bytes out, and why it cannot go on.

    Nothing is received after it has `ended`, and nothing wrapped after its `farewell`.
    """

    ended: str | None
    """Why the connection must be closed, for the log; None while it may go on."""

    more: bool
    """Whether `receive(b"")` would give more of what came already."""

    def receive(self, data: bytes) -> bytes:
        """What the bytes that came from outside mean to the layer within."""
        ...

    def wrap(self, data: bytes) -> bytes:
        """What goes out for `data` from within, after the layer's own answers that were due."""
        ...

    def farewell(self) -> bytes:
        """What goes out at last, before the connection is closed."""
        ...


def received(layers: Sequence[Layer], data: bytes) -> bytes:
    """MQTT's bytes in what came; outermost layer first."""
    for layer in layers:
        if layer.ended is not None:
            return b""
        data = layer.receive(data)
    return data


def wrapped(layers: Sequence[Layer], data: bytes) -> bytes:
    """What to send for MQTT's bytes, or for none: what the layers themselves have to say."""
    for layer in reversed(layers):
        data = layer.wrap(data)
    return data


def farewells(layers: Sequence[Layer]) -> bytes:
    """What to send before the end, each layer's within those outside of it."""
    data = b""
    for layer in reversed(layers):
        data = layer.wrap(data) + layer.farewell()
    return data
