"""Deposits in a bank's account statement: camt.053.001.08, and the older 02.

What comes in from outside is read as if a stranger had written it: bounded in size, without a
DOCTYPE (so without entities), and whatever is not as it must be is one line, InputError.
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from demesh.books.reference import by_reference, references_in
from demesh.errors import InputError

STATEMENT_BYTES_MAX = 16 * 1024 * 1024  # a busy account's month; more is another file
ENTRIES_MAX = 100_000
AMOUNT_CHARS_MAX = 19  # 18 digits and a point: ISO 20022's ActiveOrHistoricCurrencyAndAmount

VERSIONS = ("camt.053.001.08", "camt.053.001.02")

_SPACE = re.compile(r"\{urn:iso:std:iso:20022:tech:xsd:(camt\.[0-9.]+)\}Document")
_AMOUNT = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Match(Enum):
    """What a credit is to the mesh."""

    MATCHED = "matched"
    UNKNOWN = "unknown"
    CURRENCY = "wrong currency"


@dataclass(frozen=True, slots=True)
class Credit:
    """Money that came in: `cents` of `currency`, and every word that may say for whom.

    `serial` counts those that are alike in all else, from 0.
    """

    iban: str
    day: str
    cents: int
    currency: str
    bank_reference: str
    words: tuple[str, ...]
    serial: int

    @property
    def identity(self) -> bytes:
        """16 bytes that the same credit has in every statement that shows it."""
        parts = (
            *(self.iban, self.day, str(self.cents), self.currency),
            *(self.bank_reference, *self.words, str(self.serial)),
        )
        hashed = hashlib.blake2b(digest_size=16, person=b"demesh deposit 1")
        for part in parts:
            coded = part.encode()
            hashed.update(len(coded).to_bytes(4, "big") + coded)
        return hashed.digest()


@dataclass(frozen=True, slots=True)
class Row:
    """A credit, and the account (16 bytes) that its reference stands for."""

    credit: Credit
    match: Match
    account: bytes | None


def read(content: bytes, where: str) -> tuple[Credit, ...]:
    """All booked credits, in the statement's order; `where` names the file. Raises InputError."""
    if len(content) > STATEMENT_BYTES_MAX:
        raise InputError(f"{where}: larger than {STATEMENT_BYTES_MAX} bytes; is it the right file?")
    root = _tree(content, where)
    found = _SPACE.fullmatch(root.tag)
    if found is None or found[1] not in VERSIONS:
        is_one = found[1] if found else root.tag[:60]
        raise InputError(f"{where}: expected a statement, {' or '.join(VERSIONS)}; it is {is_one}")
    for node in root.iter():
        node.tag = node.tag.partition("}")[2] or node.tag
    reading = _Reading(where)
    for statement in root.iterfind("BkToCstmrStmt/Stmt"):
        reading.statement(statement)
    return tuple(reading.credits)


def match(credits: Sequence[Credit], accounts: Iterable[bytes], currency: str) -> tuple[Row, ...]:
    """Each credit beside the account whose reference, and no other, is in its words (R-BIL-1)."""
    known = by_reference(accounts)
    rows = []
    for credit in credits:
        named = {one for words in credit.words for one in references_in(words)}
        account = known.get(named.pop()) if len(named) == 1 else None
        if account is None:
            rows.append(Row(credit, Match.UNKNOWN, None))
        elif credit.currency != currency:
            rows.append(Row(credit, Match.CURRENCY, account))
        else:
            rows.append(Row(credit, Match.MATCHED, account))
    return tuple(rows)


class _Doctype(Exception):
    """The document declares a type of its own."""


class _Builder(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called where `<!DOCTYPE` begins, before anything it declares can count."""
        raise _Doctype


def _tree(content: bytes, where: str) -> ET.Element:
    parser = ET.XMLParser(target=_Builder())
    try:
        parser.feed(content)
        root: ET.Element = parser.close()
    except _Doctype:
        raise InputError(f"{where}: has a DOCTYPE, which no statement has; ask the bank") from None
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{where}: not XML: {' '.join(str(error).split())[:120]}") from None
    return root


def _text(node: ET.Element, path: str) -> str:
    """What stands there, without spaces around; empty if nothing does."""
    return (node.findtext(path) or "").strip()


def _words(details: ET.Element) -> list[str]:
    """Whatever of a transaction may hold a reference; the lines of a free text are one."""
    said = [_text(details, "Refs/EndToEndId")]
    said += [(node.text or "").strip() for node in details.iterfind("RmtInf/Strd/CdtrRefInf/Ref")]
    said.append("".join((node.text or "") for node in details.iterfind("RmtInf/Ustrd")).strip())
    return [text for text in said if text]


def _adds_up(parts: Sequence[tuple[int, str]], whole: tuple[int, str]) -> bool:
    """Is each a part of the whole, and are they all of it?"""
    cents, currency = whole
    return (
        all(part > 0 and one == currency for part, one in parts)
        and sum(part for part, _ in parts) == cents
    )


class _Reading:
    """The credits of a file, as far as it is read."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.credits: list[Credit] = []
        self._alike: dict[tuple[object, ...], int] = {}
        self._number = 0

    def statement(self, statement: ET.Element) -> None:
        iban = _text(statement, "Acct/Id/IBAN") or _text(statement, "Acct/Id/Othr/Id")
        if not iban:
            raise InputError(f"{self.where}: a statement does not name its account")
        for entry in statement.iterfind("Ntry"):
            self._number += 1
            if self._number > ENTRIES_MAX:
                raise InputError(f"{self.where}: more than {ENTRIES_MAX} entries")
            self._entry(entry, iban)

    def _entry(self, entry: ET.Element, iban: str) -> None:
        """Debits, reversals, nothing at all and what is not booked yet are left out."""
        booked = _text(entry, "Sts/Cd") or _text(entry, "Sts")
        side = _text(entry, "CdtDbtInd")
        if side not in ("CRDT", "DBIT"):
            raise self._error(f"CdtDbtInd is {side[:20]!r}, expected CRDT or DBIT")
        if side != "CRDT" or booked != "BOOK" or _text(entry, "RvslInd") in ("true", "1"):
            return
        day = (_text(entry, "BookgDt/Dt") or _text(entry, "BookgDt/DtTm"))[:10]
        if _DAY.fullmatch(day) is None:
            raise self._error(f"BookgDt is {day!r}, expected a day as 2026-11-30")
        cents, currency = self._amount(entry.find("Amt"))
        if not cents:
            return
        reference = _text(entry, "AcctSvcrRef")
        details = entry.findall("NtryDtls/TxDtls")
        parts = [self._part(one) for one in details]
        if len(details) > 1 and _adds_up(parts, (cents, currency)):
            for part, one in zip(parts, details, strict=True):
                own = _text(one, "Refs/AcctSvcrRef") or reference
                self._add(iban, day, *part, own, _words(one))
        else:  # several that are not told apart are nobody's: their words say nothing of the sum
            words = _words(details[0]) if len(details) == 1 else []
            self._add(iban, day, cents, currency, reference, words)

    def _part(self, details: ET.Element) -> tuple[int, str]:
        """What one transaction of an entry brought, 0 if it does not say; 02 has it deeper."""
        node = details.find("Amt")
        if node is None:
            node = details.find("AmtDtls/TxAmt/Amt")
        if node is None or _text(details, "CdtDbtInd") == "DBIT":
            return 0, ""
        return self._amount(node)

    def _amount(self, node: ET.Element | None) -> tuple[int, str]:
        """Hundredths and currency."""
        if node is None:
            raise self._error("has no Amt")
        written, currency = (node.text or "").strip(), node.get("Ccy", "")
        if len(written) > AMOUNT_CHARS_MAX or _AMOUNT.fullmatch(written) is None:
            raise self._error(f"Amt is {written[:30]!r}, expected an amount as 12.50")
        if re.fullmatch("[A-Z]{3}", currency) is None:
            raise self._error(f"Ccy is {currency[:20]!r}, expected a currency as EUR")
        cents = Decimal(written).scaleb(2)
        if cents != cents.to_integral_value():
            raise self._error(f"Amt is {written}, which is no whole number of hundredths")
        return int(cents), currency

    def _add(
        self,
        iban: str,
        day: str,
        cents: int,
        currency: str,
        reference: str,
        said: Sequence[str],
    ) -> None:
        words = tuple(said)
        key = (iban, day, cents, currency, reference, words)
        serial = self._alike.get(key, 0)
        self._alike[key] = serial + 1
        self.credits.append(Credit(iban, day, cents, currency, reference, words, serial))

    def _error(self, text: str) -> InputError:
        return InputError(f"{self.where}: entry {self._number}: {text}")
