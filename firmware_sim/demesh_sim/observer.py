"""Somebody who watches a mesh over MQTT: records every observation, keeps the picture up to date.

Sees what `mosquitto_sub -t 'demesh/#'` shows anybody, at one broker. If that goes away it looks on
at the next, or tries it again.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
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
        self,
        urls: Sequence[str],
        mesh_id: bytes,
        names: Mapping[str, str],
        picture: Picture,
        record: Path,
    ) -> None:
        """`urls`: boards say all of it at each; `names`: a board's name by the text of its id.

        `record`: where observations are kept.
        """
        self._urls = deque(urls)
        self._base = f"demesh/1/{identity.text(mesh_id[:16])}/"
        self._names = names
        self._picture = picture
        self._record = record
        self._began = time.monotonic_ns()
        self.heard: Heard | None = None
        self.ready = asyncio.Event()

    @property
    def url(self) -> str:
        """Of the broker at which it looks."""
        return self._urls[0]

    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        return (time.monotonic_ns() - self._began) // 1_000_000

    async def check(self) -> None:
        """Whether any broker answers at all; raises TemporaryError in one line."""
        for _ in self._urls:
            try:
                async with asyncio.timeout(CONNECT_S), self._client():
                    return
            except (aiomqtt.MqttError, TimeoutError, OSError) as error:
                why = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
                failure = f"{self.url} cannot be used: {why or f'no answer in {CONNECT_S:.0f} s'}"
                self._urls.rotate(-1)
        raise TemporaryError(f"broker {failure}; start it, or leave BROKER out")

    async def run(self) -> None:
        """Listen until cancelled."""
        before = self.url
        with self._record.open("a", encoding="utf-8", buffering=1) as record:
            while True:
                try:
                    async with self._client() as client:
                        await client.subscribe(self._base + "obs/#", qos=0)
                        await client.subscribe(self._base + "gone/+", qos=0)
                        self.ready.set()
                        if self.url != before:
                            text = f"{before} is gone; what follows is seen at {self.url}"
                            self._picture.say("broker", text, self.now_ms())
                            before = self.url
                        async for message in client.messages:
                            self._receive(message.topic.value, message.payload, record.write)
                except aiomqtt.MqttError:
                    self.ready.clear()
                    self._urls.rotate(-1)
                    await asyncio.sleep(RETRY_S)

    def _client(self) -> aiomqtt.Client:
        address, _, port = self.url.removeprefix("mqtt://").rpartition(":")
        return aiomqtt.Client(address.strip("[]"), int(port), timeout=CONNECT_S)

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
