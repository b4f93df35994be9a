"""Somebody who watches a mesh over MQTT: records every observation, keeps the picture up to date.

Sees what `mosquitto_sub -t 'demesh/#'` shows anybody. A broker that goes away is tried again.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiomqtt

from demesh.errors import TemporaryError
from demesh.wire import identity
from demesh_sim.picture import Picture

# A broker on the network answers in well under a second, or is not there.
CONNECT_S = 5.0
RETRY_S = 0.5

Heard = Callable[[str, str, Mapping[str, Any]], None]
"""Called with (board, topic, document) after the picture has changed."""


class Observer:
    """An MQTT client that only listens."""

    def __init__(
        self, url: str, mesh_id: bytes, names: Mapping[str, str], picture: Picture, record: Path
    ) -> None:
        """`names`: a board's name by the text of its id; `record`: where observations are kept."""
        self.url = url
        address, _, port = url.removeprefix("mqtt://").rpartition(":")
        self._host, self._port = address.strip("[]"), int(port)
        self._base = f"demesh/1/{identity.text(mesh_id[:16])}/"
        self._names = names
        self._picture = picture
        self._record = record
        self._began = time.monotonic_ns()
        self.heard: Heard | None = None
        self.ready = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        return (time.monotonic_ns() - self._began) // 1_000_000

    async def check(self) -> None:
        """Whether the broker answers at all; raises TemporaryError in one line."""
        try:
            async with asyncio.timeout(CONNECT_S), self._client():
                pass
        except (aiomqtt.MqttError, TimeoutError, OSError) as error:
            why = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or f"no answer in {CONNECT_S:.0f} s"
            raise TemporaryError(
                f"broker {self.url} cannot be used: {why}; start it, or leave BROKER out"
            ) from None

    async def run(self) -> None:
        """Listen until cancelled."""
        with self._record.open("a", encoding="utf-8", buffering=1) as record:
            while True:
                try:
                    async with self._client() as client:
                        await client.subscribe(self._base + "obs/#", qos=0)
                        await client.subscribe(self._base + "gone/+", qos=0)
                        self.ready.set()
                        async for message in client.messages:
                            self._receive(message.topic.value, message.payload, record.write)
                except aiomqtt.MqttError:
                    self.ready.clear()
                    await asyncio.sleep(RETRY_S)

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(self._host, self._port, timeout=CONNECT_S)

    def _receive(self, topic: str, payload: object, write: Callable[[str], object]) -> None:
        area, _, rest = topic.removeprefix(self._base).partition("/")
        device, _, about = rest.partition("/")
        board = self._names.get(device)
        if board is None or not isinstance(payload, bytes):
            return
        if area == "gone":
            self._picture.gone(device)
            about, document = "gone", {}
        else:
            try:
                document = json.loads(payload)
            except (ValueError, RecursionError):
                return
            if not isinstance(document, dict):
                return
            self._picture.receive(device, about, document, self.now_ms())
        entry = {"at_ms": self.now_ms(), "board": board, "topic": about, "document": document}
        write(json.dumps(entry, ensure_ascii=False) + "\n")
        if self.heard is not None:
            self.heard(board, about, document)
