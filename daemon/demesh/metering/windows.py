"""Which rate of a tariff counts when: windows of a local week, from mesh time alone.

R-MET-45  Local time is mesh time plus `offset_min`, the whole year round; days are counted from
          1970-01-01, a Thursday. The first window that holds day and minute gives the rate, its
          place from 1; where none does, rate 0 counts. A window has its first minute, not its last.
"""

from __future__ import annotations

from demesh.wire.offers import Tariff

MINUTE_S = 60
DAY_MIN = 1_440
WEEK_DAYS = 7
FIRST_WEEKDAY = 3  # 1970-01-01, with Monday as 0


def rate_at(tariff: Tariff, time_s: int) -> int:
    """The rate at a mesh time: 0 for the tiers without a window, else the window's place from 1."""
    day, minute = _local(tariff, time_s)
    weekday = 1 << (day + FIRST_WEEKDAY) % WEEK_DAYS
    for place, window in enumerate(tariff.windows, 1):
        if window.days & weekday and window.from_min <= minute < window.to_min:
            return place
    return 0


def edge_after(tariff: Tariff, time_s: int) -> int | None:
    """The first second after `time_s` with another rate; None if it stays the same for ever."""
    today, _ = _local(tariff, time_s)
    edges = sorted({m for w in tariff.windows for m in (w.from_min, w.to_min)})
    now = rate_at(tariff, time_s)
    for day in range(today, today + WEEK_DAYS + 1):
        for minute in edges:
            at_s = (day * DAY_MIN + minute - tariff.offset_min) * MINUTE_S
            if at_s > time_s and rate_at(tariff, at_s) != now:
                return at_s
    return None


def _local(tariff: Tariff, time_s: int) -> tuple[int, int]:
    """Day since 1970-01-01 and minute of the day where the tariff is at home."""
    return divmod(time_s // MINUTE_S + tariff.offset_min, DAY_MIN)
