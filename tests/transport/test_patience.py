"""When a connection counts as dead, second by second."""

from __future__ import annotations

import pytest

from demesh.transport.patience import (
    AHEAD_BYTES_MAX,
    REQUEST_S,
    SLOWEST_BYTES_S,
    STUBBORN_S,
    Patience,
    SilentError,
)

KEEPALIVE_S = 20


def patience() -> Patience:
    return Patience(KEEPALIVE_S, 0)


def test_a_ping_is_due_when_nothing_was_heard_for_a_keepalive() -> None:
    patient = patience()
    patient.heard(5)
    patient.said(100, 24)
    assert not patient.check(False, 24)
    assert patient.check(False, 25)
    assert not patient.check(False, 26), "one at a time"


def test_a_ping_is_due_when_nothing_was_said_for_a_keepalive_for_the_broker_counts_too() -> None:
    patient = patience()
    patient.said(100, 1)
    for now in range(2, 21):
        patient.heard(now)
        assert not patient.check(False, now)
    assert patient.check(False, 21)


def test_who_answers_no_ping_is_silent_and_any_word_is_an_answer() -> None:
    patient = patience()
    assert patient.check(False, KEEPALIVE_S)
    assert not patient.check(False, KEEPALIVE_S + REQUEST_S)
    with pytest.raises(SilentError):
        patient.check(False, KEEPALIVE_S + REQUEST_S + 0.1)
    patient.heard(KEEPALIVE_S + REQUEST_S)
    patient.said(2, KEEPALIVE_S + REQUEST_S)
    assert not patient.check(False, KEEPALIVE_S + REQUEST_S + 0.1)


def test_the_answer_to_a_ping_may_take_as_long_as_what_was_said_before_it() -> None:
    patient = patience()
    patient.said(30 * SLOWEST_BYTES_S, KEEPALIVE_S - 1)
    assert patient.check(False, KEEPALIVE_S)
    assert not patient.check(False, KEEPALIVE_S + 30 + REQUEST_S)
    with pytest.raises(SilentError):
        patient.check(False, KEEPALIVE_S + 30 + REQUEST_S + 1)


def test_a_missing_acknowledgement_ends_it_and_one_that_is_not_missing_does_not() -> None:
    patient = patience()
    patient.asked(300, True, 0)
    late = REQUEST_S + 300 / SLOWEST_BYTES_S + 0.1
    assert not patient.check(True, late - 0.2)
    assert not patient.check(False, late)
    with pytest.raises(ConnectionError, match="does not acknowledge"):
        patient.check(True, late)


def test_each_acknowledgement_gives_the_next_one_its_time() -> None:
    patient = patience()
    marks = [patient.asked(300 * place, place == 1, 0) for place in range(1, 13)]
    patient.said(3600, 0)
    for number, mark in enumerate(marks, 1):
        patient.heard(5 * number)
        patient.acknowledged(mark, 5 * number)
        patient.said(2, 5 * number)
        assert not patient.check(True, 5 * number + 4)


def test_what_was_acknowledged_and_all_before_it_is_not_waited_for_again() -> None:
    patient = patience()
    patient.said(5000, 0)  # what people read
    mark = patient.asked(300, True, 0)
    patient.said(300, 0)
    patient.heard(1)
    patient.acknowledged(mark, 1)
    patient.asked(300, True, 1)
    with pytest.raises(ConnectionError, match="does not acknowledge"):
        patient.check(True, 1 + REQUEST_S + 300 / SLOWEST_BYTES_S + 0.1)


def test_what_is_on_its_way_is_waited_for_no_longer_than_it_can_take() -> None:
    patient = patience()
    patient.said(10**9, KEEPALIVE_S)
    patient.heard(KEEPALIVE_S)
    assert patient.check(False, 2 * KEEPALIVE_S)
    with pytest.raises(SilentError):
        patient.check(False, 2 * KEEPALIVE_S + REQUEST_S + AHEAD_BYTES_MAX / SLOWEST_BYTES_S + 1)


def test_a_broker_that_has_much_to_say_may_acknowledge_behind_it_but_not_for_ever() -> None:
    patient = patience()
    patient.asked(0, True, 0)
    for now in range(1, int(REQUEST_S + STUBBORN_S)):
        patient.heard(now)
        patient.said(4, now)
        assert not patient.check(True, now)
    patient.heard(REQUEST_S + STUBBORN_S)
    with pytest.raises(ConnectionError, match="does not acknowledge"):
        patient.check(True, REQUEST_S + STUBBORN_S)
