"""The live view of a street, drawn by rich (extra `view`); everything else is in view.py.

From top to bottom: header, one row per board, energy now beside the latest decisions, what happened
beside the latest settlements. Blocks have a fixed number of rows, so that nothing ever jumps.
"""

from __future__ import annotations

from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from demesh_sim.picture import BEHIND_MIN, BoardSeen
from demesh_sim.view import Scene, credits, kilo, seconds

# From this width on there is room for owners, views, a longer bar and what a flow has cost.
WIDE = 100
BAR_CELLS, BAR_CELLS_NARROW = 20, 12
BAR_W = 6_000  # a full half of the bar: a home's inverter or a strong wallbox session

# Header 2, headings of the boards and of two pairs of blocks 3, blank lines 2, the cursor's line 1.
FIXED_ROWS = 8
LEAST_ROWS = 2
BESIDE_ROWS_MAX = 8


class LiveView:
    """The whole screen, drawn anew for each scene."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()
        self._last: Scene | None = None

    def show(self, scene: Scene) -> None:
        """Draw a scene."""
        self._last = scene
        self._live.update(self._drawn(scene), refresh=True)

    def close(self) -> None:
        """Leave the alternate screen; the last scene stays above what comes next."""
        self._live.stop()
        if self._last is not None:
            self._console.print(self._drawn(self._last))

    def _drawn(self, scene: Scene) -> Group:
        return render(scene, self._console.width, self._console.height)


def render(scene: Scene, width: int, height: int) -> Group:
    """A scene as something rich can draw; 80 x 24 is the least it is made for."""
    wide = width >= WIDE
    rows = max(2 * LEAST_ROWS, height - len(scene.picture.boards) - FIXED_ROWS)
    upper = min(rows // 2, BESIDE_ROWS_MAX)
    lower = rows - upper
    return Group(
        *_header(scene, wide=wide),
        _boards(scene, wide=wide),
        "",
        _beside(_flows(scene, upper, wide=wide), _decisions(scene, upper, wide=wide)),
        "",
        _beside(_lines(scene, lower), _money(scene, lower)),
    )


def _beside(left: RenderableType, right: RenderableType) -> Table:
    pair = Table.grid(expand=True, padding=(0, 2))
    pair.add_column(ratio=8)
    pair.add_column(ratio=5)
    pair.add_row(left, right)
    return pair


def _header(scene: Scene, *, wide: bool) -> tuple[RenderableType, ...]:
    left = Text.assemble(
        ("Demesh ", "bold"), f"· {scene.title}  ", (scene.time_of_day, "bold cyan")
    )
    where = f" · {scene.broker}"
    if not wide:  # the port is what somebody needs who wants to watch from another terminal
        address, _, port = scene.broker.rpartition(":")
        where = f" · port {port}" if address else ""
    right = Text(f"{seconds(scene.now_ms)} of {seconds(scene.duration_ms)}{where}", "dim")
    row = Table.grid(expand=True)
    row.add_column(no_wrap=True)
    row.add_column(no_wrap=True, justify="right")
    row.add_row(left, right)
    return row, Rule(Text(scene.quorum_lost, "bold red"), style="dim")


def _boards(scene: Scene, *, wide: bool) -> Table:
    cells = BAR_CELLS if wide else BAR_CELLS_NARROW
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("board", no_wrap=True, min_width=24 if wide else 22)
    if wide:
        table.add_column("owner", no_wrap=True)
    table.add_column("gives · takes", width=cells + 1, no_wrap=True, justify="center")
    for heading in ("power", "stored", "height", *(("view",) if wide else ()), "balance"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for board in scene.picture.boards.values():
        up = board.up
        table.add_row(
            _who(board, scene, up=up),
            *((board.owner,) if wide else ()),
            _bar(board.power_w if up else 0, cells),
            kilo(board.power_w, "W") if up else "",
            kilo(board.stored_wh, "Wh") if board.stored_wh else "",
            str(board.height) if board.height else "",
            *((str(board.view) if board.view else "",) if wide else ()),
            credits(board.balance),
            style="" if up else "dim",
        )
    return table


def _who(board: BoardSeen, scene: Scene, *, up: bool) -> Text:
    """Dot and name; behind it, in one word, why the board does not decide with the others."""
    color = ("green" if board.voting else "yellow") if up else "red"
    text = Text.assemble(("● ", color), f"{board.name:<15} ")
    if not up:
        text.append("starts" if board.heard_ms is None else "down", "red")
    elif board.height + BEHIND_MIN < scene.picture.height:
        text.append("behind", "yellow")
    return text


def _bar(power_w: int, cells: int) -> Text:
    """A bar to the left for what is delivered, to the right for what is drawn."""
    half = cells // 2
    filled = min(half, -(-abs(power_w) * half // BAR_W))
    full, empty = "█" * filled, " " * (half - filled)
    if power_w < 0:
        return Text.assemble(empty, (full, "green"), ("│", "dim"), " " * half)
    return Text.assemble(" " * half, ("│", "dim"), (full, "yellow"), empty)


def _block(title: str, rows: list[Text], height: int, nothing: str) -> RenderableType:
    """A heading and exactly `height` rows."""
    shown = rows[:height] or [Text(nothing, "dim italic")]
    filled = [Text(title, "bold dim"), *shown, *[Text("")] * (height - len(shown))]
    for row in filled:
        row.no_wrap, row.overflow = True, "ellipsis"
    return Group(*filled)


def _flows(scene: Scene, height: int, *, wide: bool) -> RenderableType:
    rows = []
    for flow in scene.picture.flows(scene.now_ms):
        row = Text.assemble(
            (f"{flow.provider:<14}", "green"),
            (" ━▶ ", "cyan"),
            (f"{flow.payer:<15}", "yellow"),
            f"{kilo(flow.power_w, 'W'):>8}",
        )
        if wide:
            row.append(f"{kilo(flow.units_wh, 'Wh'):>10} {credits(flow.cost):>7}", "dim")
        rows.append(row)
    total = kilo(scene.picture.sold_wh, "Wh")
    return _block(f"energy now · {total} sold so far", rows, height, "nobody sells right now")


def _decisions(scene: Scene, height: int, *, wide: bool) -> RenderableType:
    rows = []
    for decision in reversed(scene.picture.decisions):
        ops = f"{decision.ops} op{'s' if decision.ops != 1 else ' '}"
        row = Text.assemble(
            (f"{decision.height:>4} ", "bold"), f"{decision.leader:<16}", (ops, "cyan")
        )
        if wide:
            row.append(f"{decision.finality_ms:>5} ms", "dim")
        rows.append(row)
    return _block("decided", rows, height, "no block yet")


def _lines(scene: Scene, height: int) -> RenderableType:
    rows = [
        Text.assemble((f"{seconds(line.at_ms)} ", "dim"), (f"{line.who}: ", "cyan"), line.text)
        for line in list(scene.picture.lines)[-height:]
    ]
    return _block("what happened", rows, height, "nothing to tell yet")


def _money(scene: Scene, height: int) -> RenderableType:
    rows = [
        Text.assemble(
            (f"{credits(settled.paid):>6} ", "bold"),
            (settled.payer, "yellow"),
            (" ▶ ", "dim"),
            (settled.payee, "green"),
        )
        for settled in reversed(scene.picture.settled)
    ]
    picture = scene.picture
    title = f"paid {credits(picture.paid_total)} credits, fees {credits(picture.fees_total)}"
    return _block(title, rows, height, "no channel settled yet")
