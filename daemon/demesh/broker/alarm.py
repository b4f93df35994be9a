"""One timer of the event loop at an instant of the machine's clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from demesh.ports import SECOND, Instant


class Alarm:
    """Calls back once at the instant that was set last."""

    __slots__ = ("_at", "_ring", "_timer")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._at: Instant | None = None

    def set(self, at: Instant | None) -> None:
        """Ring then, and not when said before; None: not at all."""
        if at == self._at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = None
        if at is not None:
            delay_s = max(0, at - time.monotonic_ns()) / SECOND
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = self._at = None
        self._ring()
