"""What an observer of the street knows: readable observations folded into one picture.

Purely what `mosquitto_sub -t 'demesh/#'` would show anybody; nothing here is asked of a board, and
nothing that decides reads it. Times are milliseconds since the run began. Documents come from
boards that may be broken: a field that is missing or of another type is shown as nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from demesh.wire import identity
from demesh_sim.founding import Founded

# Decisions, settlements and lines that are kept for a view: more than any terminal shows.
LAST_KEPT = 64

# The same sentence of several boards within this time is one line: eight of them say it at once.
ECHO_MS = 3_000

# A session in service reports with every quantum; one that has been silent for so long has ended.
STALE_MS = 12_000

# A state document comes once a second and blocks come faster: fewer than this is not behind.
BEHIND_MIN = 10

# Sessions that are kept one by one; of older ones only the energy is remembered.
SESSIONS_MAX = 256


@dataclass(slots=True)
class BoardSeen:
    """A board as its own documents describe it."""

    name: str
    owner: str
    device_class: str
    heard_ms: int | None = None
    running: bool = False
    voting: bool = False
    view: int = 0
    height: int = 0
    power_w: int = 0
    power_w_peak: int = 0  # the most it drew or delivered
    stored_wh: int = 0
    balance: int = 0
    have: int = 0
    need: int = 0
    of: int = 0
    rejects: dict[str, int] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """It was heard, and not reported gone since then."""
        return self.running


@dataclass(frozen=True, slots=True)
class Decision:
    """A finalized block, as first heard."""

    height: int
    view: int
    leader: str
    ops: int
    finality_ms: int


@dataclass(slots=True)
class Session:
    """A metering session. Either side reports; the provider's figures are shown."""

    provider: str
    payer: str
    phase: str = ""
    power_w: int = 0
    units_wh: int = 0
    cost: int = 0
    paid: int = 0
    changed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A channel that was settled on the ledger."""

    height: int
    payer: str
    payee: str
    paid: int
    fee: int


@dataclass(frozen=True, slots=True)
class Line:
    """Something a person should know."""

    at_ms: int
    who: str
    text: str


class Picture:
    """All that has been observed; `lines` and `decisions` hold the latest LAST_KEPT."""

    def __init__(self, boards: Mapping[str, BoardSeen]) -> None:
        """`boards` by the text of their id, in the order in which they are shown."""
        self._by_id = dict(boards)
        self.boards = {board.name: board for board in boards.values()}
        self.decisions: deque[Decision] = deque(maxlen=LAST_KEPT)
        self.settled: deque[Settled] = deque(maxlen=LAST_KEPT)
        self.lines: deque[Line] = deque(maxlen=LAST_KEPT)
        self.sessions: dict[str, Session] = {}
        self.lines_total = 0
        self.settled_total = 0
        self.paid_total = 0
        self.fees_total = 0
        self.finality_ms: Counter[int] = Counter()
        self._sold_before_wh = 0
        self._height = 0
        self._ledger_height = 0

    def receive(self, device: str, topic: str, document: Mapping[str, Any], at_ms: int) -> None:
        """Take in one observation of the device with this id text."""
        board = self._by_id.get(device)
        if board is None:
            return
        board.heard_ms, board.running = at_ms, True
        match topic.partition("/")[0]:
            case "state":
                self._state(board, document)
            case "decision":
                self._decision(document)
            case "ledger":
                self._ledger(document)
            case "metering":
                self._metering(board, document, at_ms)
            case "event":
                self.say(board.name, _text(document.get("text")), at_ms)

    def gone(self, device: str) -> None:
        """The broker or the system says that this device's daemon ended."""
        if board := self._by_id.get(device):
            board.running = False

    def say(self, who: str, text: str, at_ms: int) -> None:
        """Add a line for people, unless it was said a moment ago."""
        if not text or any(
            line.text == text and at_ms - line.at_ms < ECHO_MS for line in self.lines
        ):
            return
        self.lines.append(Line(at_ms, who, text))
        self.lines_total += 1

    # -- sums ------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """The greatest height that anybody has finalized."""
        return max([self._height, *(board.height for board in self.boards.values())])

    def flows(self, now_ms: int) -> list[Session]:
        """Sessions in which something flows, the strongest first."""
        live = [
            session
            for session in self.sessions.values()
            if session.power_w > 0
            and now_ms - session.changed_ms < STALE_MS
            and not self._down(session.provider)
        ]
        return sorted(live, key=lambda session: (-session.power_w, session.payer))

    def _down(self, name: str) -> bool:
        board = self.boards.get(name)
        return board is not None and not board.up

    @property
    def sold_wh(self) -> int:
        """Energy that providers have metered, in Wh."""
        kept = sum(session.units_wh for session in self.sessions.values())
        return self._sold_before_wh + kept

    # -- by topic --------------------------------------------------------------------------------

    def _state(self, board: BoardSeen, document: Mapping[str, Any]) -> None:
        board.voting = document.get("voting") is True
        board.view = _number(document.get("view"))
        board.height = _number(document.get("height"))
        board.power_w = _number(document.get("power_w"))
        board.power_w_peak = max(board.power_w_peak, abs(board.power_w))
        board.stored_wh = _number(document.get("stored_wh"))
        board.balance = _number(document.get("balance"))
        quorum = document.get("quorum")
        if isinstance(quorum, dict):
            board.have = _number(quorum.get("have"))
            board.need = _number(quorum.get("need"))
            board.of = _number(quorum.get("of"))
        rejects = document.get("rejects")
        if isinstance(rejects, dict):
            board.rejects = {str(code): _number(count) for code, count in rejects.items()}

    def _decision(self, document: Mapping[str, Any]) -> None:
        height, finality_ms = _number(document.get("height")), document.get("finality_ms")
        if isinstance(finality_ms, int):
            self.finality_ms[finality_ms] += 1
        if height <= self._height:
            return
        self._height = height
        ops = document.get("ops")
        self.decisions.append(
            Decision(
                height=height,
                view=_number(document.get("view")),
                leader=_text(document.get("leader")),
                ops=len(ops) if isinstance(ops, list) else _number(ops),
                finality_ms=_number(finality_ms),
            )
        )

    def _ledger(self, document: Mapping[str, Any]) -> None:
        """Every board tells of every block: each height counts once."""
        height, events = _number(document.get("height")), document.get("events")
        if height <= self._ledger_height or not isinstance(events, list):
            return
        self._ledger_height = height
        for event in events:
            if isinstance(event, dict) and event.get("event") == "settled":
                settled = Settled(
                    height,
                    self._name(event.get("payer")),
                    self._name(event.get("payee")),
                    _number(event.get("paid")),
                    _number(event.get("fee")),
                )
                self.settled.append(settled)
                self.settled_total += 1
                self.paid_total += settled.paid
                self.fees_total += settled.fee

    def _metering(self, board: BoardSeen, document: Mapping[str, Any], at_ms: int) -> None:
        agreement, peer = _text(document.get("agreement")), self._name(document.get("peer"))
        provides = document.get("role") == "provider"
        provider, payer = (board.name, peer) if provides else (peer, board.name)
        session = self.sessions.pop(agreement, None) or Session(provider, payer)
        self.sessions[agreement] = session  # the latest changed is the last
        if len(self.sessions) > SESSIONS_MAX:
            oldest = next(iter(self.sessions))
            self._sold_before_wh += self.sessions.pop(oldest).units_wh
        session.changed_ms = at_ms
        if provides:
            session.phase = _text(document.get("phase"))
            session.power_w = abs(_number(document.get("power_w")))
            session.units_wh = max(session.units_wh, _number(document.get("units_wh")))
            session.cost = _number(document.get("cost"))
            session.paid = _number(document.get("paid"))

    def _name(self, who: object) -> str:
        """A board by its id text or by its name; of anybody else the beginning of the id."""
        text = _text(who)
        board = self._by_id.get(text) or self.boards.get(text)
        return board.name if board else text[:8]


def seen(founded: Founded) -> dict[str, BoardSeen]:
    """A founded mesh's boards by id text, before anything of them was heard."""
    return {
        identity.text(board.id): BoardSeen(
            board.plan.name, board.plan.owner, board.plan.device_class
        )
        for board in founded.boards
    }


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(value: object) -> str:
    return "".join(c for c in value if c.isprintable())[:200] if isinstance(value, str) else ""
