"""Alarms against a plain dictionary of times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from demesh.broker.timers import Alarms

keys = st.integers(0, 5)
steps = st.lists(
    st.tuples(keys, st.none() | st.integers(0, 30)) | st.tuples(st.none(), st.integers(0, 4)),
    max_size=100,
)


@given(steps)
def test_every_key_is_due_once_at_its_latest_time(
    changes: list[tuple[int | None, int | None]],
) -> None:
    """Pairs: a key and its time from now, or None and the time that passes."""
    alarms: Alarms[int] = Alarms()
    times: dict[int, int] = {}
    now = 0
    for key, span in changes:
        if key is None:
            now += span or 0
            due = list(alarms.due(now))
            assert sorted(due) == sorted(k for k, at in times.items() if at <= now)
            assert [times[k] for k in due] == sorted(times[k] for k in due), "the earliest first"
            for k in due:
                del times[k]
        elif span is None:
            alarms.set(key, None)
            times.pop(key, None)
        else:
            alarms.set(key, now + span)
            times[key] = now + span
        assert alarms.deadline() == min(times.values(), default=None)
        assert len(alarms) == len(times)
        assert all(alarms.get(k) == at for k, at in times.items())


def test_an_alarm_moved_again_and_again_takes_no_more_room() -> None:
    alarms: Alarms[str] = Alarms()
    for n in range(100_000):
        alarms.set("a", 1_000_000 + n)
    assert len(alarms._heap) < 100


def test_a_key_may_be_set_again_while_it_is_due() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("a", 1)
    seen = 0
    for key in alarms.due(10):
        seen += 1
        if seen < 3:
            alarms.set(key, seen + 1)
    assert seen == 3
