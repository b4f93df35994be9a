"""Strategies for MQTT packets of both levels, drawn from the tables of the codec itself."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from demesh.broker.codec import (
    LEVEL_3,
    LEVEL_5,
    Auth,
    Code,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Wanted,
)
from demesh.broker.properties import BINARY, PAIR, TABLE, TEXT, Place, Row

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
binaries = st.binary(max_size=60)
packet_ids = st.integers(1, 65_535)
qos = st.integers(0, 2)
levels = st.sampled_from([LEVEL_3, LEVEL_5])
_FORMS: dict[Any, st.SearchStrategy[Any]] = {
    TEXT: texts,
    BINARY: binaries,
    PAIR: st.tuples(texts, texts),
}


def _values(row: Row, place: Place) -> st.SearchStrategy[Any]:
    one = _FORMS[row.form] if row.form in _FORMS else st.integers(row.least, row.most)
    if row.name not in ("user", "subscription_ids"):
        return one
    return st.lists(one, min_size=1, max_size=4 if place in row.many else 1).map(tuple)


@st.composite
def some_properties(draw: st.DrawFn, place: Place) -> Properties | None:
    """A few of those that may stand in this place; None, as the decoder says it, for none."""
    rows = draw(st.lists(st.sampled_from([r for r in TABLE if place in r.places]), max_size=5))
    found = {row.name: draw(_values(row, place)) for row in rows}
    if place in (Place.CONNECT,) and "auth_data" in found:
        found.setdefault("auth_method", "plain")
    return Properties(**found) if found else None


def _of_level(level: int, place: Place) -> st.SearchStrategy[Properties | None]:
    return some_properties(place) if level == LEVEL_5 else st.none()


@st.composite
def publishes(draw: st.DrawFn, level: int = LEVEL_3) -> Publish:
    """Any PUBLISH."""
    of = draw(qos)
    topic = draw(texts)
    properties = draw(_of_level(level, Place.PUBLISH))
    if level == LEVEL_5 and (properties is None or properties.topic_alias is None):
        topic = topic or "t"
    return Publish(
        topic,
        draw(st.binary(max_size=300)),
        of,
        draw(st.booleans()),
        draw(st.booleans()) if of else False,
        draw(packet_ids) if of else 0,
        properties,
    )


@st.composite
def connects(draw: st.DrawFn, level: int = LEVEL_3) -> Connect:
    """Any CONNECT of this level."""
    will = None
    if draw(st.booleans()):
        said = _of_level(level, Place.WILL)
        will = Publish(
            draw(texts), draw(binaries), draw(qos), draw(st.booleans()), properties=draw(said)
        )
    username = draw(st.none() | texts)
    password = draw(st.none() | binaries)
    return Connect(
        draw(texts),
        draw(st.booleans()),
        draw(st.integers(0, 65_535)),
        will,
        username,
        None if username is None and level == LEVEL_3 else password,
        level,
        draw(_of_level(level, Place.CONNECT)),
    )


def _codes(*allowed: int) -> st.SearchStrategy[Code]:
    return st.sampled_from([Code(number) for number in allowed])


RECEIVED = (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
RELEASED = (0x00, 0x92)
REFUSED = (*range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F)
GRANTS = (0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
ENDED = (0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91)
GOODBYES = (0, 4, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3))
"""Codes that MQTT 5 has for each packet (section 2.4), copied from it once more."""

_wanted = st.lists(
    st.tuples(texts, qos).map(lambda plain: Wanted(*plain)), min_size=1, max_size=5
).map(tuple)
_wanted_5 = st.lists(
    st.builds(Wanted, texts, qos, st.booleans(), st.booleans(), qos), min_size=1, max_size=5
).map(tuple)
_patterns = st.lists(texts, min_size=1, max_size=5).map(tuple)


def _listed(codes: st.SearchStrategy[Code]) -> st.SearchStrategy[tuple[Code, ...]]:
    return st.lists(codes, min_size=1, max_size=5).map(tuple)


_plain = st.sampled_from([Pingreq(), Pingresp(), Disconnect()])
packets_3: st.SearchStrategy[Packet] = st.one_of(
    publishes(),
    connects(),
    st.builds(Connack, _codes(0x84, 0x85, 0x86, 0x87, 0x88)),
    st.builds(Connack, st.just(Code.SUCCESS), st.booleans()),
    *(st.builds(kind, packet_ids) for kind in (Puback, Pubrec, Pubrel, Pubcomp, Unsuback)),
    st.builds(Subscribe, packet_ids, _wanted),
    st.builds(Suback, packet_ids, _listed(_codes(0, 1, 2, 0x80))),
    st.builds(Unsubscribe, packet_ids, _patterns),
    _plain,
)
packets_5: st.SearchStrategy[Packet] = st.one_of(
    publishes(LEVEL_5),
    connects(LEVEL_5),
    st.builds(Connack, _codes(*REFUSED), st.just(False), some_properties(Place.CONNACK)),
    st.builds(Connack, st.just(Code.SUCCESS), st.booleans(), some_properties(Place.CONNACK)),
    st.builds(Puback, packet_ids, _codes(*RECEIVED), some_properties(Place.PUBACK)),
    st.builds(Pubrec, packet_ids, _codes(*RECEIVED), some_properties(Place.PUBREC)),
    st.builds(Pubrel, packet_ids, _codes(*RELEASED), some_properties(Place.PUBREL)),
    st.builds(Pubcomp, packet_ids, _codes(*RELEASED), some_properties(Place.PUBCOMP)),
    st.builds(Subscribe, packet_ids, _wanted_5, some_properties(Place.SUBSCRIBE)),
    st.builds(Suback, packet_ids, _listed(_codes(*GRANTS)), some_properties(Place.SUBACK)),
    st.builds(Unsubscribe, packet_ids, _patterns, some_properties(Place.UNSUBSCRIBE)),
    st.builds(Unsuback, packet_ids, _listed(_codes(*ENDED)), some_properties(Place.UNSUBACK)),
    st.builds(Disconnect, _codes(*GOODBYES), some_properties(Place.DISCONNECT)),
    st.builds(Auth, _codes(0x00, 0x18, 0x19), some_properties(Place.AUTH)),
    _plain,
)


def of_level(level: int) -> st.SearchStrategy[Packet]:
    """Any packet of this level."""
    return packets_5 if level == LEVEL_5 else packets_3


@st.composite
def leveled(draw: st.DrawFn) -> tuple[int, Packet]:
    """A level and a packet of it."""
    level = draw(levels)
    return level, draw(of_level(level))
