"""Payouts as pain.001: the schema, the sums, and what is left in the account."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sepaxml
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from demesh.books.pain001 import CENTS_MAX, SCHEMA, Payment, Payout, payments, write
from demesh.books.payees import Party, Payees
from demesh.errors import InputError, MissingError

HOUSE = Party("Street commons", "NL91ABNA0417164300", "", "NL", "")
ADA = Party("Ada <& Ökostrom>", "DE89370400440532013000", "COBADEFFXXX", "DE", "")
BEN = Party("Ben", "NL91ABNA0417164300", "", "NL", "")
PAYEES = Payees(HOUSE, {"Ada": ADA, "Ben": BEN})
SPACE = {"": f"urn:iso:std:iso:20022:tech:xsd:{SCHEMA}"}
SCHEMAS = Path(sepaxml.__file__).parent / "schemas"
ON, CREATED = date(2026, 11, 30), datetime(2026, 11, 30, 12, 30, 1)


def made(*owed: tuple[str, int], unit_micro: int = 10_000) -> tuple[Payment, ...]:
    return payments([Payout(*one) for one in owed], PAYEES, unit_micro)


def written(*owed: tuple[str, int]) -> bytes:
    return write(made(*owed), HOUSE, "street 2026-11", ON, CREATED)


def test_the_file_fits_the_schema_and_its_sum_is_that_of_its_payments() -> None:
    content = written(("Ada", 12_345_678), ("Ben", 50_000_000))
    schema = etree.XMLSchema(etree.parse(str(SCHEMAS / f"{SCHEMA}.xsd")))
    schema.assertValid(etree.fromstring(content))
    document = ET.fromstring(content)
    amounts = [node.text for node in document.iterfind(".//InstdAmt", SPACE)]
    assert amounts == ["12.34", "50.00"]
    for node in document.iterfind(".//CtrlSum", SPACE):
        assert Decimal(node.text or "") == Decimal("62.34")
    assert [node.text for node in document.iterfind(".//EndToEndId", SPACE)] == [
        "street 2026-11-1",
        "street 2026-11-2",
    ]


def test_the_same_payments_are_the_same_bytes() -> None:
    assert written(("Ada", 10_000)) == written(("Ada", 10_000))


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=9), st.integers(1, 10**6))
def test_what_is_paid_and_what_stays_is_what_was_owed(owed: list[int], unit_micro: int) -> None:
    found = [made(("Ada", one), unit_micro=unit_micro)[0] for one in owed if one < 10**11]
    for payment, one in zip(found, [one for one in owed if one < 10**11], strict=True):
        assert payment.cents * unit_micro + payment.rest_micro == one
        assert 0 <= payment.rest_micro < unit_micro


def test_less_than_a_hundredth_is_not_paid() -> None:
    assert made(("Ada", 9_999)) == (Payment("Ada", ADA, 0, 9_999),)
    assert written(("Ada", 9_999), ("Ben", 10_000)).count(b"<CdtTrfTxInf>") == 1
    with pytest.raises(InputError, match="nothing to pay"):
        written(("Ada", 9_999))


@pytest.mark.parametrize(
    ("owed", "said"),
    [
        (("Eve", 1), "owner Eve: not among the payees"),
        (("Ada", (CENTS_MAX + 1) * 10_000), "1000000000.00 is more than one payment may be"),
    ],
)
def test_who_cannot_be_paid_is_named(owed: tuple[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(owed)


def test_what_the_schema_refuses_is_one_line() -> None:
    wrong = Party("Ada", "no IBAN", "", "DE", "")
    with pytest.raises(InputError, match="payments: not a good") as caught:
        write((Payment("Ada", wrong, 1, 0),), HOUSE, "x", ON, CREATED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reference", ["", "x" * 31, "a\nb", "ä", " x"])
def test_a_reference_that_no_bank_takes_is_refused(reference: str) -> None:
    with pytest.raises(InputError, match="reference"):
        write(made(("Ada", 10_000)), HOUSE, reference, ON, CREATED)


def test_without_sepaxml_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sepaxml", None)
    with pytest.raises(MissingError, match=r"pip install 'demesh\[payments\]'") as caught:
        written(("Ada", 10_000))
    assert caught.value.exit_code == 69
