"""A line between two programs on the loopback interface that can be cut, go dead, and be mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass


@dataclass(slots=True)
class _Pair:
    near: socket.socket
    far: socket.socket
    dead: bool = False


class Line:
    """Listens on `port` and passes on to another one."""

    def __init__(self, to: int) -> None:
        self._to, self._whole = to, True
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def carries(self) -> int:
        """Connections that it carries now."""
        with self._lock:
            return sum(not pair.dead for pair in self._pairs)

    def cut(self) -> None:
        """Both ends are told, and nobody is let through any more."""
        with self._lock:
            self._whole = False
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _hang_up(pair)

    def go_dead(self) -> None:
        """What is there stays and carries nothing; nobody is let through any more."""
        with self._lock:
            self._whole = False
            for pair in self._pairs:
                pair.dead = True

    def mend(self) -> None:
        """Let new connections through."""
        with self._lock:
            self._whole = True

    def close(self) -> None:
        """End it all."""
        self.cut()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            with self._lock:
                whole = self._whole
            if not whole:
                near.close()
                continue
            pair = _Pair(near, socket.create_connection(("127.0.0.1", self._to)))
            for one in (pair.near, pair.far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append(pair)
            for source, goal in ((pair.near, pair.far), (pair.far, pair.near)):
                threading.Thread(target=_pump, args=(pair, source, goal), daemon=True).start()


def _pump(pair: _Pair, source: socket.socket, goal: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if not pair.dead:
                goal.sendall(data)
    if not pair.dead:
        _hang_up(pair)


def _hang_up(pair: _Pair) -> None:
    for one in (pair.near, pair.far):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
