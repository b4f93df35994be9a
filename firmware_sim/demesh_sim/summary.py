"""How a run ended, for a person and as an exit code: 0 only if the street did all it promises."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from demesh_sim.audit import OWN, Audit
from demesh_sim.picture import BEHIND_MIN, Picture
from demesh_sim.scenario import Scenario
from demesh_sim.view import credits, kilo

# A chain this short may have come about before the boards even traded.
COMMON_HEIGHT_MIN = 10

GOOD, BAD = 0, 1
INTERRUPTED = 130  # as the command line has it

# Summaries are read on the narrowest terminal that the live view is made for.
LINE_CELLS = 80


@dataclass(frozen=True, slots=True)
class Run:
    """What the books do not know: time, energy and how long decisions took (ms: how often)."""

    wall_ms: int
    simulated_s: int
    sold_wh: int
    finality_ms: Mapping[int, int]
    feeders: tuple[tuple[str, int, int], ...] = ()  # (board, peak seen and limit, in W)
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """The books, the run, and what is missing to call it good."""

    audit: Audit
    run: Run
    missing: tuple[str, ...]
    franchise: tuple[str, ...]
    not_yet: tuple[str, ...] = ()  # what an interrupted run had no time for

    @property
    def exit_code(self) -> int:
        """0 if nothing is missing; 130 if nothing is wrong and somebody ended it too early."""
        if self.missing:
            return BAD
        return INTERRUPTED if self.not_yet else GOOD


def feeders(scenario: Scenario, picture: Picture) -> tuple[tuple[str, int, int], ...]:
    """What the street's cable carried at most, as its meter showed it."""
    return tuple(
        (board.name, picture.boards[board.name].power_w_peak, board.feeder.limit_w)
        for board in scenario.board
        if board.feeder is not None
    )


# Boards take some seconds to start and to trade; a loaded machine a few more.
SHORT_MS = 20_000


def summarize(audit: Audit, run: Run) -> Summary:
    """Judge a run."""
    missing = list(audit.faults)
    wrong = [f"{name} {total}" for name, total in audit.sums if total]
    if audit.sum or wrong:
        missing.append(f"money is not conserved: sum {audit.sum} {', '.join(wrong)}".rstrip())
    if not audit.roots_agree:
        missing.append(f"state roots differ at height {audit.common_height}")
    late = []
    if audit.common_height <= COMMON_HEIGHT_MIN:
        late.append(
            f"the common height is {audit.common_height}; expected more than {COMMON_HEIGHT_MIN}"
        )
    if run.sold_wh == 0:
        late.append("no energy was sold")
    if audit.channels_settled == 0:
        late.append("no channel was settled")
    if late and run.wall_ms < SHORT_MS:
        late.append(f"a run of {run.wall_ms // 1000} s is short: try DURATION={SHORT_MS // 1000}")
    if run.interrupted:
        return Summary(audit, run, tuple(missing), franchise(audit), tuple(late))
    return Summary(audit, run, (*missing, *late), franchise(audit))


def franchise(audit: Audit) -> tuple[str, ...]:
    """What the votes protect from and what not, in sentences."""
    weights = [weight for _, weight in audit.votes]
    total = sum(weights)
    faulty, quorum = (total - 1) // 3, 2 * total // 3 + 1
    owned: Counter[str] = Counter()
    for owner, weight in audit.votes:
        owned[owner] += weight
    equal = set(weights) == {1}
    each = "one per board" if equal else f"on {len(weights)} boards"
    some = f"Up to {faulty} boards" if equal else f"Boards with up to {faulty} of them together"
    above = [f"{name} ({votes})" for name, votes in sorted(owned.items()) if votes > faulty]
    lines = textwrap.wrap(
        f"{f'Epoch {audit.epoch}: ' if audit.epoch else ''}{total} votes, {each}; {quorum} of them "
        f"decide. {some} may be broken, silent or lying, "
        "and still nothing false is decided and nothing stops.",
        LINE_CELLS,
    )
    if above:
        have = "has" if len(above) == 1 else "have"
        lines += textwrap.wrap(
            f"Votes count boards, not yet owners: {' and '.join(above)} {have} more than {faulty}. "
            "So this protects from faulty boards, and not from a dishonest owner of so many.",
            LINE_CELLS,
        )
    return tuple(lines)


def percentile(counts: Mapping[int, int], permille: int) -> int | None:
    """The least value that at least `permille` of all counted are not above; None without any."""
    total = sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen * 1000 >= total * permille:
            return value
    return None


def lines(summary: Summary) -> list[str]:
    """The summary as lines of text."""
    audit, run = summary.audit, summary.run
    hours, minutes = divmod(run.simulated_s // 60, 60)
    middle, slow = (percentile(run.finality_ms, permille) for permille in (500, 990))
    finality = f", finality p50 {middle} ms, p99 {slow} ms" if middle is not None else ""
    said = [
        f"time      {run.wall_ms // 1000}.{run.wall_ms % 1000 // 100} s, "
        f"in which {hours} h {minutes:02d} min passed on the street",
        f"decided   {audit.blocks} blocks{finality}",
        f"energy    {kilo(run.sold_wh, 'Wh')} sold between boards",
        f"channels  {audit.channels_settled} settled of {audit.channels_opened} opened; "
        f"{credits(audit.paid)} credits paid, of which {credits(audit.fees)} fees"
        + (f", since block {audit.since}" if audit.since else ""),
        *(
            f"feeder    at most {kilo(peak_w, 'W')} of {kilo(most_w, 'W')} allowed, by {name}"
            for name, peak_w, most_w in run.feeders
        ),
        "",
    ]
    for balance in audit.balances:
        held = [(name, amount) for name, amount in balance.accounts if amount or name != OWN]
        said += _balance_lines(
            f"{balance.owner:<9} {credits(balance.total):>9}   ",
            [f"{name} {credits(amount)}" for name, amount in held],
        )
    said += [
        f"{'commons':<9} {credits(audit.commons):>9}",
        f"{'escrow':<9} {credits(audit.escrow):>9}   in open channels",
        f"{'sum':<9} {credits(audit.sum):>9}",
        "",
        *_root_lines(audit),
        "",
        *summary.franchise,
        "",
    ]
    if summary.missing:
        said += [f"NOT GOOD: {text}" for text in summary.missing]
    elif summary.not_yet:
        said += [f"interrupted early: {text}" for text in summary.not_yet]
        said.append("Money is conserved, all boards agree.")
    else:
        said.append("Money is conserved, all boards agree, energy was sold and paid for.")
    return said


def _balance_lines(head: str, parts: list[str]) -> list[str]:
    """An owner's accounts, as many on a line as fit; an account is never torn from its amount."""
    rows = [head]
    for place, part in enumerate(parts):
        text = part + ("," if place + 1 < len(parts) else "")
        if len(rows[-1]) + len(text) >= LINE_CELLS and len(rows[-1]) > len(head):
            rows.append(" " * len(head))
        rows[-1] += text if len(rows[-1]) == len(head) else f" {text}"
    return rows


def _root_lines(audit: Audit) -> list[str]:
    if audit.roots_agree:
        root = audit.roots[0][1]
        behind = audit.blocks - audit.common_height
        return [
            f"state root at the common height {audit.common_height}: {root[:16]}…, "
            f"equal on all {len(audit.roots)} boards",
            *(
                [f"balances are of that height; the slowest board is {behind} blocks behind"]
                if behind > BEHIND_MIN
                else []
            ),
        ]
    return [
        f"state root at height {audit.common_height} of {name:<15} {root[:16]}…"
        for name, root in audit.roots
    ]
