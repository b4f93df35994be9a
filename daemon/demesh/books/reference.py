"""The creditor reference (ISO 11649) under which money for an account comes in from a bank.

R-BIL-1  The reference of an account is "RF", two check digits, and the first 21 characters of the
         account's id text (R-ID-7) in capitals. The check digits are those of ISO 7064 MOD 97-10,
         as in an IBAN. It stands for the one known account that has it, and for none if several do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from demesh.errors import InputError
from demesh.wire.identity import text

# ISO 11649 leaves 21 characters; of an id that is 105 bits, more than anybody can search through.
BODY_CHARS = 21

_FORM = rf"RF[0-9]{{2}}[A-Z2-7]{{{BODY_CHARS}}}"

# A lookahead, so that a look-alike in front does not swallow the true one.
_WITHIN = re.compile(rf"(?=({_FORM}))")


def remainder(written: str) -> int:
    """MOD 97-10 of digits and capitals, a letter counting as 10 to 35; 1 is right (ISO 7064)."""
    return int("".join(str(int(character, 36)) for character in written)) % 97


def reference_of(identity: bytes) -> str:
    """The reference, 25 characters, of the account with this id (16 bytes)."""
    body = text(identity)[:BODY_CHARS].upper()
    return f"RF{98 - remainder(body + 'RF00'):02}{body}"


def checked(written: str) -> str:
    """A reference as a person wrote it, without spaces and in capitals; raises InputError."""
    reference = "".join(written.split()).upper()
    if re.fullmatch(_FORM, reference) is None:
        raise InputError(
            f"reference {written[:40]!r}: expected RF, two digits and {BODY_CHARS} of A-Z and 2-7"
        )
    if remainder(reference[4:] + reference[:4]) != 1:
        raise InputError(f"reference {written[:40]!r}: its check digits do not fit; compare it")
    return reference


def references_in(words: str) -> tuple[str, ...]:
    """All that are right in a free text, each once: banks break lines where they like."""
    joined = "".join(words.split()).upper()
    found = dict.fromkeys(_WITHIN.findall(joined))
    return tuple(one for one in found if remainder(one[4:] + one[:4]) == 1)


def by_reference(accounts: Iterable[bytes]) -> dict[str, bytes]:
    """The account (16 bytes) that each reference stands for; those that share one are left out."""
    found: dict[str, list[bytes]] = {}
    for account in dict.fromkeys(accounts):
        found.setdefault(reference_of(account), []).append(account)
    return {reference: same[0] for reference, same in found.items() if len(same) == 1}
