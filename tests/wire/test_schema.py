"""Every message class survives its encoding, and nothing else is taken for one."""

from __future__ import annotations

import types
import typing
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import IntEnum
from typing import Annotated, Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.wire import certificates, messages, offers, opbodies, readings
from demesh.wire.schema import TAIL, Bounds, Malformed, decode, encode, plain_hint, tails_of
from demesh.wire.validate import canonical

MESSAGES = [
    cls
    for module in (certificates, messages, offers, opbodies, readings)
    for cls in vars(module).values()
    if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__
]
SOME = 4  # items of a tuple and extra bytes of a string are drawn up to so many above the least


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation of a message, within its bounds."""
    hint, bounds = plain_hint(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return st.none() | values(typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        most = min(bounds.greatest, bounds.least + SOME)
        return st.lists(values(typing.get_args(hint)[0]), min_size=bounds.least, max_size=most).map(
            tuple
        )
    if is_dataclass(hint):
        return instances(typing.cast(type, hint))
    if issubclass(hint, IntEnum):
        return st.sampled_from(hint)
    if hint is int:
        return st.integers(bounds.least, bounds.greatest)
    if hint is bool:
        return st.booleans()
    most = min(bounds.greatest, bounds.least + 300)
    maker = st.binary if hint is bytes else st.text
    return maker(min_size=bounds.least, max_size=most)


def instances(cls: type) -> st.SearchStrategy[Any]:
    """Instances of a message class."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{f.name: values(hints[f.name]) for f in fields(cls)})


def bounds_of(cls: type, name: str) -> tuple[Any, Bounds] | None:
    hint = typing.get_type_hints(cls, include_extras=True)[name]
    inner, bounds = plain_hint(hint)
    return None if bounds is None else (inner, bounds)


def test_all_messages_are_under_test() -> None:
    assert len(MESSAGES) >= 25
    assert set(messages.MESSAGE_OF_KIND.values()) <= set(MESSAGES)


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_a_message_survives_its_encoding_which_is_canonical(cls: type, data: Any) -> None:
    message = data.draw(instances(cls))
    encoded = encode(message)
    assert canonical(encoded)
    assert decode(cls, encoded) == message
    assert decode(cls, memoryview(encoded)) == message


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
@settings(max_examples=10, deadline=None)  # a large genesis on a busy machine
@given(data=st.data())
def test_a_value_of_another_type_in_any_field_is_malformed(cls: type, data: Any) -> None:
    items = cbor2.loads(encode(data.draw(instances(cls))))
    for at, field in enumerate(fields(cls)):
        for wrong in (
            1.5,
            {},
            {1: 2},
            [[]],
            True,
            None,
            "\0" * 5000,
            b"\0" * 65_000,
            2**70,
            -(2**60),
        ):
            hint = typing.get_type_hints(cls)[field.name]
            if wrong is None and type(None) in typing.get_args(hint):
                continue
            if hint is type(wrong) and bounds_of(cls, field.name) is None:
                continue
            changed = [*items[:at], wrong, *items[at + 1 :]]
            with pytest.raises(Malformed):
                decode(cls, cbor2.dumps(changed))


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
@settings(max_examples=10)
@given(data=st.data())
def test_a_field_too_many_or_too_few_is_malformed(cls: type, data: Any) -> None:
    items = cbor2.loads(encode(data.draw(instances(cls))))
    few = items[: len(fields(cls)) - len(tails_of(cls)) - 1]
    many = [*items, *[0] * (len(fields(cls)) + 1 - len(items))]
    for changed in (few, many, {"items": items}, 0, None, cbor2.CBORTag(258, items)):
        with pytest.raises(Malformed):
            decode(cls, cbor2.dumps(changed))


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
@settings(max_examples=5)
@given(data=st.data())
def test_bounds_hold_at_both_ends(cls: type, data: Any) -> None:
    message = data.draw(instances(cls))
    for field in fields(cls):
        found = bounds_of(cls, field.name)
        if found is None or found[0] not in (int, bytes, str):
            continue
        kind, bounds = found
        for size, good in (
            (bounds.least, True),
            (bounds.greatest, True),
            (bounds.least - 1, False),
            (bounds.greatest + 1, False),
        ):
            if kind is not int and size < 0:
                continue
            value = size if kind is int else b"a" * size if kind is bytes else "a" * size
            changed = encode(replace(message, **{field.name: value}))
            if good:
                assert getattr(decode(cls, changed), field.name) == value
            else:
                fits = kind is not int or -(2**64) <= value < 2**64  # else a bignum: a tag
                words = rf"\.{field.name}: " if fits else ": not deterministic"
                with pytest.raises(Malformed, match=cls.__name__ + words):
                    decode(cls, changed)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(MESSAGES))
def test_any_bytes_are_a_message_or_malformed(content: bytes, cls: type) -> None:
    with suppress(Malformed):
        decode(cls, content)


@settings(max_examples=500)
@given(st.sampled_from([opbodies.Transfer, readings.Voucher, opbodies.Claim]), st.data())
def test_only_the_one_encoding_of_a_message_is_taken_for_it(cls: type, data: Any) -> None:
    """Also where no validator walked before: ops lie in byte strings within a payload."""
    content = bytearray(encode(data.draw(instances(cls))))
    at = data.draw(st.integers(0, len(content)))
    telling = [
        b"\x00",
        b"\x18",
        b"\x58",
        b"\x5f",
        b"\x9f",
        b"\xc2",
        b"\xc2\x41",
        b"\xc4\x82",
        b"\xff",
    ]
    content[at:at] = data.draw(st.sampled_from(telling))
    with suppress(Malformed):
        assert encode(decode(cls, bytes(content))) == content


HOSTILE = {
    "nothing": "",
    "100000 arrays": "81" * 100_000,
    "2^64-1 items": "9bffffffffffffffff",
    "2^62 bytes": "5b4000000000000000",
    "a shared value that holds itself": "d81c81d81d00",
    "a reference to nothing": "d81d00",
    "a date of next to never": "c11b7fffffffffffffff",
    "a date of infinity": "c1fb7ff0000000000000",
    "a regular expression": "d8236128",
    "a big number": "c25820" + "ff" * 32,
    "a decimal of a great exponent": "c4821b00000000ffffffff01",
    "an address": "d9010441ff",
    "a string reference": "d90100d81900",
    "a break": "ff",
}


@pytest.mark.parametrize("encoded", HOSTILE.values(), ids=HOSTILE)
def test_what_cbor2_can_choke_on_is_malformed(encoded: str) -> None:
    content = bytes.fromhex(encoded)
    for cls in (offers.Ack, readings.Voucher, messages.Blocks):
        with pytest.raises(Malformed):
            decode(cls, content)
        with pytest.raises(Malformed):
            decode(cls, b"\x81" + content)


def test_the_rule_of_a_class_that_refuses_its_own_values_is_malformed() -> None:
    @dataclass(frozen=True, slots=True)
    class Even:
        """An even number."""

        number: Annotated[int, Bounds(0, 10)]

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError(f"{self.number} is odd")

    assert decode(Even, encode(Even(4))) == Even(4)
    with pytest.raises(Malformed, match="Even: 3 is odd"):
        decode(Even, b"\x81\x03")


@dataclass(frozen=True, slots=True)
class Grown:
    """What had one field first, then two more."""

    first: Annotated[int, Bounds(0, 10)]
    second: Annotated[int, Bounds(0, 10), TAIL] = 0
    third: Annotated[Annotated[int, Bounds(0, 10)] | None, TAIL] = None


def test_what_came_later_is_left_out_from_the_end_while_it_has_its_default() -> None:
    said = {(1, 0, None): "8101", (1, 4, None): "820104", (1, 0, 5): "83010005"}
    for values, content in said.items():
        assert encode(Grown(*values)).hex() == content
        assert decode(Grown, bytes.fromhex(content)) == Grown(*values)


@pytest.mark.parametrize("content", ["820100", "830100f6", "830104f6", "80", "8401040506"])
def test_an_array_that_ends_with_a_default_or_has_another_number_is_malformed(content: str) -> None:
    with pytest.raises(Malformed, match="Grown"):
        decode(Grown, bytes.fromhex(content))


def test_who_reads_as_before_takes_no_field_that_came_later() -> None:
    assert decode(Grown, b"\x81\x01", tails=False) == Grown(1)
    with pytest.raises(Malformed, match="expected an array of 1"):
        decode(Grown, encode(Grown(1, 4)), tails=False)


def test_an_error_names_class_and_field() -> None:
    with pytest.raises(Malformed, match=r"Ack\.agreement: 15 is outside 16\.\.16"):
        decode(offers.Ack, encode(offers.Ack(bytes(15))))
    with pytest.raises(Malformed, match=r"Refuse\.reason: 99 is no Refusal"):
        decode(offers.Refuse, b"\x82\x50" + bytes(16) + b"\x18\x63")
    with pytest.raises(Malformed, match="Ack: expected an array of 1"):
        decode(offers.Ack, b"\x80")
