"""Who seems to be up: a hint for people and for choosing partners, never for safety or eviction.

A broker can lie about wills. So a device is gone only if every broker that we are connected to has
said so, and none of these has brought anything of the device since; and anything the device says
itself afterwards, on whichever broker, counts more (R-BRK-2).
"""

from __future__ import annotations

from demesh.ports import Instant


class Presence:
    """Up or down, per device, as last heard. Brokers are numbers, a set of them a bit mask."""

    def __init__(self) -> None:
        self._up: dict[bytes, bool] = {}
        self._boot: dict[bytes, int] = {}
        self._heard_at: dict[bytes, Instant] = {}
        self._gone: dict[bytes, int] = {}  # the brokers that said so, and brought nothing since

    def heard(self, device: bytes, broker: int = 0, now: Instant = 0) -> bool:
        """The device said something itself, now; True if that is news."""
        self._heard_at[device] = now
        self.brought(device, broker)
        news = not self._up.get(device, False)
        self._up[device] = True
        return news

    def brought(self, device: bytes, broker: int) -> None:
        """A broker brought a copy of what the device said: so it is connected there."""
        if said := self._gone.get(device, 0):
            self._gone[device] = said & ~(1 << broker)

    def booted(self, device: bytes, boot: int) -> None:
        """The device's own boot counter, which tells an old connection's will from a new one."""
        if boot > self._boot.get(device, 0):
            self._boot[device] = boot
            self._gone.pop(device, None)  # they meant an earlier connection

    def gone(self, device: bytes, payload: bytes, broker: int = 0, links: int = 1) -> bool:
        """A will or farewell naming the connection by its boot counter; True if that is news.

        It came from this broker, and we are connected to `links`.
        """
        if not payload.isdigit() or len(payload) > 20:
            return False
        if int(payload) < self._boot.get(device, 0):
            return False
        self._gone[device] = self._gone.get(device, 0) | 1 << broker
        return self._leaves(device, links)

    def unlinked(self, links: int) -> list[bytes]:
        """A broker is lost; who is gone by the word of all that are left, if any is."""
        return [device for device in self._gone if links and self._leaves(device, links)]

    def is_up(self, device: bytes) -> bool:
        """Heard, and not gone since."""
        return self._up.get(device, False)

    def silent_since(self, device: bytes, since: Instant) -> bool:
        """Has it said nothing, that came here, since then?"""
        return self._heard_at.get(device, since - 1) < since

    def _leaves(self, device: bytes, links: int) -> bool:
        said = self._gone[device]
        if not said or links & ~said or not self._up.get(device, False):
            return False
        self._up[device] = False
        return True
