"""Which account a person means, and what an account is called."""

from __future__ import annotations

from demesh.ledger.ledger import Ledger
from demesh.wire import identity

COMMONS = "commons"
"""The name of the commons' account, unless a member or an owner is called so."""


def names_of(ledger: Ledger, commons: bytes) -> dict[bytes, str]:
    """Every account that has a name, by id."""
    names = {commons: COMMONS}
    names |= {id: owner.name for id, owner in ledger.owners()}
    return names | {id: member.certificate.name for id, member in ledger.members()}


def account_of(ledger: Ledger, commons: bytes, given: str) -> bytes | None:
    """The id that a name or an id's text stands for; None if it is neither.

    An id need not be that of an account.
    """
    by_name = {name: id for id, name in names_of(ledger, commons).items()}
    if given in by_name:
        return by_name[given]
    try:
        return identity.parse(given)
    except ValueError:
        return None
