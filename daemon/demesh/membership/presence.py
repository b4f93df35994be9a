"""Who seems to be up: a hint for people and for choosing partners, never for safety or eviction.

A broker can lie about wills, so anything a device says itself afterwards counts more.
"""

from __future__ import annotations


class Presence:
    """Up or down, per device, as last heard."""

    def __init__(self) -> None:
        self._up: dict[bytes, bool] = {}
        self._boot: dict[bytes, int] = {}

    def heard(self, device: bytes) -> bool:
        """The device said something itself, now; True if that is news."""
        news = not self._up.get(device, False)
        self._up[device] = True
        return news

    def booted(self, device: bytes, boot: int) -> None:
        """The device's own boot counter, which tells an old connection's will from a new one."""
        self._boot[device] = max(boot, self._boot.get(device, 0))

    def gone(self, device: bytes, payload: bytes) -> bool:
        """A will or farewell naming the connection by its boot counter; True if that is news."""
        if not payload.isdigit() or len(payload) > 20:
            return False
        if int(payload) < self._boot.get(device, 0) or not self._up.get(device, False):
            return False
        self._up[device] = False
        return True

    def is_up(self, device: bytes) -> bool:
        """Heard, and not gone since."""
        return self._up.get(device, False)
