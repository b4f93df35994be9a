"""Invoices as UBL 2.1 after the European norm EN 16931, from integers.

The norm wants hundredths in every line, and sums that agree to the hundredth. So each line is
rounded down, the invoice is paid as the ledger paid it, rounded down once, and what the lines lost
against that is the norm's rounding amount, BT-114 (R-BIL-2, R-BIL-3). No VAT: category O.

R-BIL-3  An invoice: lines floor(amount), their sum S; paid P = floor(sum of amounts), never less
         than S; rounding P - S; what is due, S - P + rounding, is 0, for the ledger has paid all.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import date

from demesh.books.money import cents_of, decimal, plain
from demesh.errors import InputError

LINES_MAX = 10_000

_NAMESPACES = {
    "xmlns": "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2",
    "xmlns:cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "xmlns:cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
}

# SenML unit -> code of UN/ECE Recommendation 20, and the exponent by which it is greater.
UNIT_CODES = {
    "Wh": ("KWH", 3),
    "J": ("JOU", 0),
    "B": ("AD", 0),
    "l": ("LTR", 0),
    "g": ("GRM", 0),
    "kg": ("KGM", 0),
    "m": ("MTR", 0),
    "m3": ("MTQ", 0),
    "s": ("SEC", 0),
    "count": ("C62", 0),
}

# What XML 1.0 cannot hold, in whatever way it is written.
_UNPRINTABLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Trader:
    """A seller or buyer: name, two-letter country, the mesh's id text, perhaps a registration."""

    name: str
    country: str
    identity: str
    registration: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """What was sold: `quantity` x 10^scale of a SenML unit, for micro-credits."""

    name: str
    quantity: int
    scale: int
    unit: str
    amount_micro: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """All that an invoice says; `first` and `last` are the days of its period."""

    number: str
    issued: date
    first: date
    last: date
    seller: Trader
    buyer: Trader
    currency: str
    unit_micro: int
    lines: tuple[Line, ...]
    note: str


def write(invoice: Invoice) -> bytes:
    """The document in UTF-8. Raises InputError if there is nothing to put into it."""
    if not 1 <= len(invoice.lines) <= LINES_MAX:
        raise InputError(
            f"invoice {invoice.number}: {len(invoice.lines)} lines, expected 1..{LINES_MAX}"
        )
    nets = [cents_of(line.amount_micro, invoice.unit_micro)[0] for line in invoice.lines]
    paid, _ = cents_of(sum(line.amount_micro for line in invoice.lines), invoice.unit_micro)
    root = ET.Element("Invoice", _NAMESPACES)
    _put(root, "CustomizationID", "urn:cen.eu:en16931:2017")
    _put(root, "ID", invoice.number)
    _put(root, "IssueDate", invoice.issued.isoformat())
    _put(root, "InvoiceTypeCode", "380")
    _put(root, "Note", invoice.note)
    _put(root, "DocumentCurrencyCode", invoice.currency)
    period = _group(root, "InvoicePeriod")
    _put(period, "StartDate", invoice.first.isoformat())
    _put(period, "EndDate", invoice.last.isoformat())
    _trader(_group(root, "AccountingSupplierParty"), invoice.seller)
    _trader(_group(root, "AccountingCustomerParty"), invoice.buyer)
    _put(_group(root, "PaymentMeans"), "PaymentMeansCode", "97")  # UNTDID 4461: between partners
    _tax(root, invoice, sum(nets))
    _totals(root, invoice, sum(nets), paid)
    for number, (line, net) in enumerate(zip(invoice.lines, nets, strict=True), 1):
        _line(root, invoice, number, line, net)
    body: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return body + b"\n"


def _group(parent: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(parent, f"cac:{name}")


def _put(parent: ET.Element, name: str, value: str, **attributes: str) -> None:
    """A basic component; what XML cannot hold becomes a question mark."""
    ET.SubElement(parent, f"cbc:{name}", attributes).text = _UNPRINTABLE.sub("?", value)


def _money(parent: ET.Element, name: str, cents: int, currency: str) -> None:
    _put(parent, name, decimal(cents, 2), currencyID=currency)


def _trader(parent: ET.Element, trader: Trader) -> None:
    party = _group(parent, "Party")
    _put(_group(party, "PartyIdentification"), "ID", trader.identity)
    country = _group(_group(party, "PostalAddress"), "Country")
    _put(country, "IdentificationCode", trader.country)
    legal = _group(party, "PartyLegalEntity")
    _put(legal, "RegistrationName", trader.name)
    if trader.registration:
        _put(legal, "CompanyID", trader.registration)


def _category(parent: ET.Element, name: str, reason: str = "") -> None:
    """Category O of UNTDID 5305: outside the scope of VAT."""
    category = _group(parent, name)
    _put(category, "ID", "O")
    if reason:
        _put(category, "TaxExemptionReason", reason)
    _put(_group(category, "TaxScheme"), "ID", "VAT")


def _tax(root: ET.Element, invoice: Invoice, net: int) -> None:
    total = _group(root, "TaxTotal")
    _money(total, "TaxAmount", 0, invoice.currency)
    part = _group(total, "TaxSubtotal")
    _money(part, "TaxableAmount", net, invoice.currency)
    _money(part, "TaxAmount", 0, invoice.currency)
    _category(part, "TaxCategory", "Not subject to VAT")


def _totals(root: ET.Element, invoice: Invoice, net: int, paid: int) -> None:
    totals = _group(root, "LegalMonetaryTotal")
    for name in ("LineExtensionAmount", "TaxExclusiveAmount", "TaxInclusiveAmount"):
        _money(totals, name, net, invoice.currency)
    rounding = paid - net
    _money(totals, "PrepaidAmount", paid, invoice.currency)
    if rounding:
        _money(totals, "PayableRoundingAmount", rounding, invoice.currency)
    _money(totals, "PayableAmount", net - paid + rounding, invoice.currency)


def _line(root: ET.Element, invoice: Invoice, number: int, line: Line, net: int) -> None:
    """The price is that of all of it: with steps and windows there is no other one price."""
    if line.unit not in UNIT_CODES:
        raise InputError(
            f"invoice {invoice.number}: unit {line.unit} has no code; "
            f"known are {', '.join(UNIT_CODES)}"
        )
    if line.quantity < 1:
        raise InputError(f"invoice {invoice.number}: line {number} is {line.quantity} of nothing")
    code, greater = UNIT_CODES[line.unit]
    exponent = line.scale - greater
    quantity = plain(line.quantity * 10 ** max(exponent, 0), max(-exponent, 0))
    node = _group(root, "InvoiceLine")
    _put(node, "ID", str(number))
    _put(node, "InvoicedQuantity", quantity, unitCode=code)
    _money(node, "LineExtensionAmount", net, invoice.currency)
    item = _group(node, "Item")
    _put(item, "Name", line.name)
    _category(item, "ClassifiedTaxCategory")
    price = _group(node, "Price")
    _money(price, "PriceAmount", net, invoice.currency)
    _put(price, "BaseQuantity", quantity, unitCode=code)
