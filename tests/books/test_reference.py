"""The reference of an account: ISO 11649, and what people and banks make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demesh.books.reference import by_reference, checked, reference_of, references_in, remainder
from demesh.errors import InputError
from demesh.wire.identity import ALPHABET, text

IDS = st.binary(min_size=16, max_size=16)


def test_the_check_digits_are_those_of_the_standard() -> None:
    """The example of ISO 11649 as banks print it, and the IBAN of the ECBS."""
    assert remainder("539007547034" + "RF18") == 1
    assert remainder("370400440532013000" + "DE89") == 1


@given(IDS)
def test_a_reference_is_read_back_however_it_is_spaced(identity: bytes) -> None:
    reference = reference_of(identity)
    assert reference[4:].lower() == text(identity)[:21]
    assert len(reference) == 25
    spaced = " ".join(reference[place : place + 4] for place in range(0, 25, 4)).lower()
    assert checked(spaced) == reference
    assert by_reference([identity, bytes(16), identity])[reference] == identity


@given(IDS, st.integers(4, 24), st.sampled_from(ALPHABET.upper()))
def test_one_wrong_letter_or_digit_is_found(identity: bytes, place: int, other: str) -> None:
    """Of one for the other, which shifts all digits behind it, 96 in 97 are: none fits by rule."""
    reference = reference_of(identity)
    wrong = reference[:place] + other + reference[place + 1 :]
    if wrong != reference and other.isdigit() == reference[place].isdigit():
        with pytest.raises(InputError, match="check digits"):
            checked(wrong)
        assert references_in(wrong) == ()


@pytest.mark.parametrize("written", ["", "RF", "RF18539007547034", "x" * 25, "RF٣٣" + "A" * 21])
def test_what_is_no_reference_is_one_line(written: str) -> None:
    with pytest.raises(InputError, match=r"^reference .*expected RF, two digits and 21") as caught:
        checked(written)
    assert "\n" not in str(caught.value)


@given(IDS)
def test_a_reference_is_found_in_the_words_around_it_and_across_lines(identity: bytes) -> None:
    reference = reference_of(identity)
    assert references_in(f"thanks for RF\n{reference[:9]}\n{reference[9:]}, see you") == (
        reference,
    )


def test_two_accounts_with_one_reference_have_none() -> None:
    one, other = bytes(16), bytes(15) + b"\x01"
    assert reference_of(one) == reference_of(other)
    assert by_reference([one, other]) == {}
