"""Log lines that a client can cause, at a bounded rate (pure)."""

from __future__ import annotations

from demesh.ports import SECOND, Instant

# Of each kind one line a minute: enough to see what goes on, and a flood writes no disk full.
EVERY_NS = 60 * SECOND


class Notices:
    """When a line of some kind may be written; the kinds are few."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[str, tuple[Instant, int]] = {}  # when last written, how many left out

    def line(self, kind: str, text: str, now: Instant) -> str | None:
        """The line to write, which says how many of its kind were left out; None: not now."""
        known = self._since.get(kind)
        if known is not None and now - known[0] < EVERY_NS:
            self._since[kind] = (known[0], known[1] + 1)
            return None
        self._since[kind] = (now, 0)
        return f"{text} (and {known[1]} more before)" if known is not None and known[1] else text
