"""Who may log in, and what the rights of a file make of it: the broker's `Access` (pure)."""

from __future__ import annotations

from demesh.broker.access import ANYBODY
from demesh.broker.passwords import Passwords
from demesh.broker.rights import Rights


class Accounts:
    """Passwords, certificates and rights together; an `access.Access`.

    A verified certificate is a login: its name is the user, no password is asked for, and a CONNECT
    may repeat the name but say no other. Without passwords and certificates everybody is ANYBODY,
    whatever name he gives; with either, nobody is. Without rights a user may do everything.
    """

    __slots__ = ("_by_certificate", "_passwords", "_removed", "_rights")

    def __init__(
        self,
        passwords: Passwords | None = None,
        rights: Rights | None = None,
        *,
        by_certificate: bool = False,
        removed: frozenset[str] = frozenset(),
    ) -> None:
        """`removed`: names that had a password until now."""
        self._passwords = passwords
        self._rights = rights
        self._by_certificate = by_certificate
        self._removed = removed

    def login(
        self, username: str | None, password: bytes | None, certificate: str | None
    ) -> str | None:
        """The user; None to refuse."""
        if certificate is not None and self._by_certificate:
            return certificate if certificate and username in (None, "", certificate) else None
        if self._passwords is None:
            return None if self._by_certificate else ANYBODY
        if username is None or password is None:
            return None
        return username if self._passwords.fits(username, password) else None

    def knows(self, user: str) -> bool:
        """Whether a user that once logged in could do so again; by certificate, anybody may."""
        if self._passwords is None and not self._by_certificate:
            return user == ANYBODY
        if self._passwords is not None and user in self._passwords:
            return True
        return self._by_certificate and user != ANYBODY and user not in self._removed

    def may_connect(self, user: str, client_id: str) -> bool:
        """Not under the name of another with a password, nor that with the number of a broker
        (`ID-2`): who took it first would lock that device out. Of certificates it is not known
        whose names there are: with them a client id is one's own name, or begins with it and `-`.
        """
        if self._by_certificate:
            return client_id == user or client_id.startswith(f"{user}-")
        if self._passwords is None:
            return True
        name, _, number = client_id.rpartition("-")
        names = {client_id, name} if number.isdecimal() and len(number) < 3 else {client_id}
        return user in names or not any(name in self._passwords for name in names)

    def may_write(self, user: str, client_id: str, topic: str) -> bool:
        """Whether a user may publish to a topic name."""
        return self._rights is None or self._rights.may_write(user, client_id, topic)

    def may_read(self, user: str, client_id: str, pattern: str) -> bool:
        """Whether everything that a topic filter matches may be read."""
        return self._rights is None or self._rights.may_read(user, client_id, pattern)
