"""Bytes that went through sockets, as the kernel counts them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from demesh_sim.links import HEADER_BYTES

SS = shutil.which("ss")
MISSING = "" if SS else "ss is not installed: apt install iproute2"

_COUNTED = re.compile(r"\b(bytes_sent|bytes_received|segs_out|segs_in):(\d+)")

DAY_S = 86_400

Ends = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Payload and segments in both directions, of one end or of several."""

    payload_bytes: float
    segments: float

    @property
    def framed_bytes(self) -> float:
        """With TCP/IP headers: an estimate, for it takes every segment's to be alike."""
        return self.payload_bytes + self.segments * HEADER_BYTES

    def of_a_day(self, seconds: float, nodes: int) -> Traffic:
        """One node's share of a day, if so many seconds of all nodes came to this."""
        part = DAY_S / (seconds * nodes)
        return Traffic(self.payload_bytes * part, self.segments * part)


class Meter:
    """Counts from now on what goes through sockets of which one end is at one of these ports."""

    def __init__(self, ports: Collection[int], *, both_ends: bool) -> None:
        """`both_ends`: the far ends belong to those who are measured, too."""
        self._ports = frozenset(ports)
        self._both_ends = both_ends
        self._before = self._read()

    def read(self) -> Traffic:
        """So far, of sockets that are still open."""
        payload = segments = 0
        for ends, (bytes_now, segments_now) in self._read().items():
            bytes_then, segments_then = self._before.get(ends, (0, 0))
            payload += bytes_now - bytes_then
            segments += segments_now - segments_then
        return Traffic(payload, segments)

    def _read(self) -> dict[Ends, tuple[int, int]]:
        assert SS is not None, "look at MISSING first"
        said = subprocess.run([SS, "-tinHO"], capture_output=True, text=True, check=True).stdout
        found = {}
        for line in said.splitlines():
            near, far = line.split()[3:5]
            ends = (near, far) if self._both_ends else (near,)
            if self._ports.isdisjoint(int(end.rpartition(":")[2]) for end in ends):
                continue
            counted = {name: int(value) for name, value in _COUNTED.findall(line)}
            found[near, far] = (
                counted.get("bytes_sent", 0) + counted.get("bytes_received", 0),
                counted.get("segs_out", 0) + counted.get("segs_in", 0),
            )
        return found
