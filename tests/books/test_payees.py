"""payees.toml: what is taken, and the one line for what is not."""

from __future__ import annotations

import tomllib

import pytest

from demesh.books.payees import Party, parse
from demesh.errors import ConfigError

GOOD = """
[treasury]
name = "Street commons"
iban = "NL91 ABNA 0417 1643 00"
country = "NL"

[[payee]]
owner = "Ada"
name = "Ada Lovelace"
iban = "DE89370400440532013000"
bic = "COBADEFFXXX"
country = "DE"
registration = "HRB 1"
"""


def test_payees_are_read_with_their_ibans_without_spaces() -> None:
    payees = parse(tomllib.loads(GOOD), "payees.toml")
    assert payees.treasury == Party("Street commons", "NL91ABNA0417164300", "", "NL", "")
    assert payees.owners == {
        "Ada": Party("Ada Lovelace", "DE89370400440532013000", "COBADEFFXXX", "DE", "HRB 1")
    }


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ('"NL91 ABNA 0417 1643 00"', '"NL91 ABNA 0417 1643 01"', "wrong character"),
        ('"NL91 ABNA 0417 1643 00"', '"NL91"', "is no IBAN"),
        ('"NL91 ABNA 0417 1643 00"', "91", "is not text"),
        ('"COBADEFFXXX"', '"COBADEFFXX"', "is no BIC"),
        ('"DE"', '"Germany"', "at most 2"),
        ('"DE"', '"de"', "two capitals"),
        ('owner = "Ada"', 'vat_id = "DE1"', "vat_id is unknown"),
        ('owner = "Ada"\n', "", "owner is missing"),
        ("[treasury]", "[treasurer]", "treasurer is unknown"),
        ("[[payee]]", GOOD[GOOD.index("[[payee]]") :] + "[[payee]]", "is there twice"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(good: str, bad: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse(tomllib.loads(GOOD.replace(good, bad, 1)), "payees.toml")
    assert str(caught.value).startswith("payees.toml: ")
    assert "\n" not in str(caught.value)
