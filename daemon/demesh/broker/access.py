"""Who may connect, write and read: the port that the broker asks, and the answer of an open broker.

The machine asks when a client connects, publishes to a topic for the first time, or subscribes, and
remembers answers until it is given another `Access` (`Broker.set_access`). So an `Access` never
changes: new accounts and rights are a new one. It is pure: it reads no file and no clock.
"""

from __future__ import annotations

from typing import Protocol

ANYBODY = ""
"""The user of those who did not say who they are, where that is allowed."""


class Access(Protocol):
    """The accounts and rights of one broker."""

    def login(
        self, username: str | None, password: bytes | None, certificate: str | None
    ) -> str | None:
        """The user of a CONNECT, None to refuse it; `certificate`: a TLS client's verified name."""

    def knows(self, user: str) -> bool:
        """Whether a user that once logged in could still do so."""

    def may_connect(self, user: str, client_id: str) -> bool:
        """Whether a user may begin a session under this client id, which it chose itself."""

    def may_write(self, user: str, client_id: str, topic: str) -> bool:
        """Whether a user may publish to a valid topic name."""

    def may_read(self, user: str, client_id: str, pattern: str) -> bool:
        """Whether everything that a valid topic filter matches may be read."""


class Open:
    """Everybody may do everything; a user name that is not checked is not one."""

    def login(
        self, username: str | None, password: bytes | None, certificate: str | None
    ) -> str | None:
        """Anybody."""
        return ANYBODY

    def knows(self, user: str) -> bool:
        """Only those without a name."""
        return user == ANYBODY

    def may_connect(self, user: str, client_id: str) -> bool:
        """Yes."""
        return True

    def may_write(self, user: str, client_id: str, topic: str) -> bool:
        """Yes."""
        return True

    def may_read(self, user: str, client_id: str, pattern: str) -> bool:
        """Yes."""
        return True
