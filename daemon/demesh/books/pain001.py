"""What owners are paid in real money, as a file that a bank takes: pain.001.001.09.

The file is sepaxml's, checked by it against the schema of ISO 20022. Its ids and its time would
come from chance and clock; they are given here, so the same payments make the same bytes, and a
bank that is handed one file twice can tell.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from demesh.books.money import cents_of, decimal
from demesh.books.payees import Party, Payees
from demesh.errors import InputError, MissingError

SCHEMA = "pain.001.001.09"
CENTS_MAX = 99_999_999_999  # 999,999,999.99: the most of one SEPA payment (EPC rulebook AT-T002)
PAYOUTS_MAX = 1024

_SPACE = {"": f"urn:iso:std:iso:20022:tech:xsd:{SCHEMA}"}
_ID = re.compile(
    r"[A-Za-z0-9+?/:().,'-][A-Za-z0-9+?/:().,' -]{0,34}"
)  # ISO 20022 Max35Text, SEPA's


@dataclass(frozen=True, slots=True)
class Payout:
    """What is owed to an owner."""

    owner: str
    amount_micro: int


@dataclass(frozen=True, slots=True)
class Payment:
    """What an owner is paid, in hundredths, and what stays in the owner's account (R-BIL-2)."""

    owner: str
    party: Party
    cents: int
    rest_micro: int


def payments(payouts: Sequence[Payout], payees: Payees, unit_micro: int) -> tuple[Payment, ...]:
    """Whom to pay how much; 0 hundredths where there is less than one. Raises InputError."""
    made = []
    for payout in payouts:
        party = payees.owners.get(payout.owner)
        if party is None:
            raise InputError(f"owner {payout.owner}: not among the payees; add a [[payee]]")
        cents, rest = cents_of(payout.amount_micro, unit_micro)
        if cents > CENTS_MAX:
            raise InputError(
                f"owner {payout.owner}: {decimal(cents, 2)} is more than one payment may be, "
                f"{decimal(CENTS_MAX, 2)}"
            )
        made.append(Payment(payout.owner, party, cents, rest))
    return tuple(made)


def write(
    made: Sequence[Payment], treasury: Party, reference: str, on: date, created: datetime
) -> bytes:
    """The file for these payments, to be carried out `on` a day; in euros, as all of SEPA.

    `reference`, at most 30 characters, becomes its id and, with a number, each payment's; `created`
    is wall time. Raises InputError, or MissingError without sepaxml.
    """
    due = [payment for payment in made if payment.cents]
    if not due:
        raise InputError("payments: nobody is owed a whole hundredth; there is nothing to pay")
    if len(due) > PAYOUTS_MAX:
        raise InputError(f"payments: {len(due)} in one file; {PAYOUTS_MAX} are the most")
    if _ID.fullmatch(reference) is None or len(reference) > 30:
        raise InputError(
            f"reference {reference[:40]!r}: expected up to 30 letters, digits or +?/-:().,'"
        )
    transfer, refused = _transfer(treasury)
    for number, payment in enumerate(due, 1):
        transfer.add_payment(
            _with_bic(payment.party)
            | {
                "amount": payment.cents,
                "execution_date": on,
                "description": reference,
                "endtoend_id": f"{reference}-{number}",
            }
        )
    try:
        written = transfer.export(validate=True)
    except refused as error:
        cause = getattr(error.__cause__, "reason", None) or error
        raise InputError(f"payments: not a good {SCHEMA}: {' '.join(str(cause).split())}") from None
    return _settled(written, reference, created)


def _transfer(treasury: Party) -> tuple[Any, type[Exception]]:
    """An empty file of sepaxml's, and what it raises if the schema does not like it."""
    try:
        from sepaxml import SepaTransfer  # noqa: PLC0415  an extra: only this command needs it
        from sepaxml.validation import ValidationError  # noqa: PLC0415
    except ImportError:
        raise MissingError(
            "pain.001 needs sepaxml; beside demesh: python -m pip install 'demesh[payments]'"
        ) from None
    config = _with_bic(treasury) | {"batch": True, "currency": "EUR"}
    return SepaTransfer(config, schema=SCHEMA, clean=True), ValidationError


def _with_bic(party: Party) -> dict[str, object]:
    named: dict[str, object] = {"name": party.name, "IBAN": party.iban}
    return named | ({"BIC": party.bic} if party.bic else {})


def _settled(written: bytes, reference: str, created: datetime) -> bytes:
    """The same file with ids and time of ours, all of the same types."""
    document = ET.fromstring(written)
    given = {
        "./CstmrCdtTrfInitn/GrpHdr/MsgId": reference,
        "./CstmrCdtTrfInitn/GrpHdr/CreDtTm": created.strftime("%Y-%m-%dT%H:%M:%S"),
        "./CstmrCdtTrfInitn/PmtInf/PmtInfId": reference,
    }
    for path, value in given.items():
        (node,) = document.findall(path, _SPACE)
        node.text = value
    for node in document.iter():
        node.tag = node.tag.removeprefix(f"{{{_SPACE['']}}}")
    document.set("xmlns", _SPACE[""])
    body: bytes = ET.tostring(document, "utf-8", xml_declaration=True)
    return body + b"\n"
