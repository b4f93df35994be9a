"""Who is paid in real money, and where: the private file `payees.toml`, checked.

    [treasury]                              # the account that pays
    name = "Street commons"
    iban = "NL50 BANK 1234 5678 90"
    country = "NL"

    [[payee]]
    owner = "Ada"                           # as the mesh calls this owner
    name = "Ada Lovelace"
    iban = "DE89 3704 0044 0532 0130 00"
    bic = "COBADEFFXXX"                     # only if the bank asks for it
    country = "DE"
    registration = "HRB 1"                  # only if there is one

There is no VAT number: the invoices are outside VAT, and such a one may not bear any (EN 16931,
BR-O-02).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demesh.books.reference import remainder
from demesh.section import Section

PAYEES_MAX = 1024  # as many owners as a mesh may have devices, and more

NAME_CHARS_MAX = 70  # of a party in a SEPA payment (EPC rulebook AT-E001)

_KEYS = ("name", "iban", "bic", "country", "registration")


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody with a bank account; `bic` and `registration` may be empty."""

    name: str
    iban: str
    bic: str
    country: str
    registration: str


@dataclass(frozen=True, slots=True)
class Payees:
    """Who pays, and who is paid, by the owner's name in the mesh."""

    treasury: Party
    owners: Mapping[str, Party]


def parse(table: Mapping[str, Any], where: str) -> Payees:
    """The payees in a TOML table; `where` names the file. Raises ConfigError."""
    top = Section(where, "", table)
    top.known("treasury", "payee")
    house = top.section("treasury")
    house.known(*_KEYS)
    treasury = _party(house)
    owners: dict[str, Party] = {}
    for section in top.sections("payee", PAYEES_MAX):
        section.known("owner", *_KEYS)
        owner = section.text("owner", chars_max=64)
        if owner in owners:
            raise section.misfit("owner", f'= "{owner}" is there twice; one account each')
        owners[owner] = _party(section)
    return Payees(treasury, owners)


def _party(section: Section) -> Party:
    country = section.text("country", chars_max=2)
    if re.fullmatch("[A-Z]{2}", country) is None:
        raise section.misfit("country", f'= "{country}" is no country; write two capitals, as DE')
    bic = section.text("bic", "", chars_max=11)
    if bic and re.fullmatch("[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?", bic) is None:
        raise section.misfit("bic", f'= "{bic}" is no BIC; it has 8 or 11 capitals and digits')
    return Party(
        section.text("name", chars_max=NAME_CHARS_MAX),
        _iban(section),
        bic,
        country,
        section.text("registration", "", chars_max=NAME_CHARS_MAX),
    )


def _iban(section: Section) -> str:
    """Without spaces; its length is the country's affair, its check digits are ISO 7064's."""
    written = section.text("iban", chars_max=42)
    iban = "".join(written.split())
    if re.fullmatch("[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", iban) is None:
        raise section.misfit("iban", f'= "{written}" is no IBAN; it is like DE89 3704 0044 ...')
    if remainder(iban[4:] + iban[:4]) != 1:
        raise section.misfit("iban", f'= "{written}" has a wrong character; compare it')
    return iban
