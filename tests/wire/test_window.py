"""The replay window against a model that remembers everything."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st


class Memory:
    """Remembers every pair ever used; the width is all it shares with the window."""

    def __init__(self) -> None:
        self.pairs: list[tuple[int, int]] = []
        self.floor: tuple[int, int] | None = None

    def high(self) -> tuple[int, int] | None:
        known = [*self.pairs, *([self.floor] if self.floor else [])]
        return max(known) if known else None

    def used(self, boot: int, seq: int) -> bool:
        high = self.high()
        if high is None or (boot, seq) > high:
            return False
        if self.floor is not None and (boot, seq) <= self.floor:
            return True
        return boot < high[0] or high[1] - seq >= 64 or (boot, seq) in self.pairs

    def use(self, boot: int, seq: int) -> bool:
        if self.used(boot, seq):
            return False
        self.pairs.append((boot, seq))
        return True

    def raise_to(self, boot: int, seq: int) -> None:
        high = self.high()
        if high is None or (boot, seq) >= high:
            self.floor = (boot, seq)


near = st.integers(0, 200)
far = st.sampled_from([0, 2**32, 2**63 - 1, 2**63, 2**64 - 65, 2**64 - 64, 2**64 - 2, 2**64 - 1])
calls = st.lists(
    st.tuples(
        st.sampled_from(["use", "use", "use", "use", "used", "raise_to"]),
        st.integers(0, 3) | far,
        near | far,
    ),
    max_size=80,
)


@given(calls)
def test_a_window_says_what_a_full_memory_says(mode: Any, steps: list[Any]) -> None:
    window, memory = mode.Window(), Memory()
    for name, boot, seq in steps:
        assert getattr(window, name)(boot, seq) == getattr(memory, name)(boot, seq)
        assert window.high() == memory.high()


def test_every_step_ahead_moves_the_bitmap_right(mode: Any) -> None:
    for ahead in range(1, 140):
        window, memory = mode.Window(), Memory()
        for seq in (200, 201, 203, 203 + ahead):
            assert window.use(1, seq) == memory.use(1, seq)
        for seq in range(360):
            assert window.used(1, seq) == memory.used(1, seq), (ahead, seq)


def test_nothing_is_used_before_the_first(mode: Any) -> None:
    window = mode.Window()
    assert window.high() is None
    assert not window.used(0, 0)


def test_late_signals_within_64_are_taken_once(mode: Any) -> None:
    window = mode.Window()
    assert window.use(1, 100)
    assert window.use(1, 37)
    assert not window.use(1, 37)
    assert not window.use(1, 36)


def test_a_higher_boot_starts_over_and_a_lower_one_is_dead(mode: Any) -> None:
    window = mode.Window()
    assert window.use(1, 100)
    assert window.use(2, 0)
    assert not window.use(1, 101)
    assert window.high() == (2, 0)


def test_a_restored_window_is_never_lowered(mode: Any) -> None:
    window = mode.Window()
    window.raise_to(5, 50)
    window.raise_to(5, 10)
    window.raise_to(4, 99)
    assert window.high() == (5, 50)
    assert window.used(5, 49)
    assert window.use(5, 51)
