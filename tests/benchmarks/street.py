"""What a second of service costs in the street: messages on the wire, syncs of the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.plan import STREET, Plan
from benchmarks.row import Row
from demesh.metering import payer, provider
from demesh.node import Node
from demesh.ports import SECOND, Actuate, Effect, Input, Instant, Journal, Keep, Publish
from demesh.wire._reference import read_envelope
from demesh.wire.kinds import Kind, Reject
from demesh_sim import founding, scenario
from demesh_sim.founding import seeded
from demesh_sim.letters import Letters
from demesh_sim.virtual import BEGINS_S, street_swarm

GROUP = "metering"

SEED = 1
DURING = (Kind.READING, Kind.VOUCHER)
AROUND = (Kind.ACCEPT, Kind.ACK, Kind.REFUSE, Kind.END)


def rows(plan: Plan) -> Iterator[Row]:
    """One virtual street, every effect counted."""
    seconds = plan.count(60, 12)
    street = scenario.load(STREET)
    founded = founding.found(street, BEGINS_S, seeded(SEED))
    swarm = street_swarm(street, founded, SEED)
    tally = Tally(Letters(board.device_key for board in founded.boards))
    for host in swarm.hosts:
        host.member = replace(host.member, make_node=counting(tally))
    swarm.run(seconds)
    syncs = sum(host.store.syncs for host in swarm.hosts)
    served_s = tally.served_s()
    how = f"virtual street, {seconds} s, seed {SEED}, {served_s:.0f} session-seconds"
    quantum_s = min(b.sell.quantum_ms for b in street.board if b.sell) / 1000
    pages = 2 / quantum_s
    during = sum(tally.sent[kind] for kind in DURING)
    around = sum(tally.sent[kind] for kind in AROUND)
    yield Row(GROUP, "messages per session-second", during / served_s, "",
              f"READING, VOUCHER; {how}", pages, f"2 per {quantum_s:g} s quantum")  # fmt: skip
    yield Row(GROUP, "bytes per session-minute", 60 * tally.bytes / served_s, "B",
              f"sealed payloads of READING, VOUCHER; {how}")  # fmt: skip
    yield Row(GROUP, "messages around a session", around / max(1, tally.sessions), "",
              f"ACCEPT, ACK, REFUSE, END; {tally.sessions} sessions")  # fmt: skip
    yield Row(GROUP, "fsyncs for metering per session-second", tally.urgent / served_s, "",
              "turns that keep an urgent entry of either side")  # fmt: skip
    board_s = len(swarm.hosts) * seconds
    yield Row(GROUP, "all fsyncs per board-second", syncs / board_s, "",
              "votes, blocks, metering; reference: turns that vote", tally.votes / board_s,
              "votes")  # fmt: skip


class Tally:
    """What all boards of a swarm did."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters
        self.sent: Counter[Kind] = Counter()
        self.bytes = self.urgent = self.votes = self.sessions = 0
        self._served_ns = 0
        self._began: dict[tuple[bytes, bytes], Instant] = {}
        self._now: dict[bytes, Instant] = {}  # each board has a clock of its own

    def turn(self, board: bytes, effects: Sequence[Effect], now: Instant) -> None:
        """Count an answer of a board's node."""
        self._now[board] = now
        spaces = (provider.SPACE, payer.SPACE)
        keeps = [e for e in effects if isinstance(e, Keep) and e.urgent and e.space in spaces]
        self.urgent += bool(keeps)
        self.votes += any(isinstance(effect, Journal) for effect in effects)
        for effect in effects:
            if isinstance(effect, Publish) and "/to/" in effect.topic:
                envelope = read_envelope(self._letters.opened(board, effect).payload)
                assert not isinstance(envelope, Reject), envelope
                kind = Kind(envelope.kind)
                self.sent[kind] += 1
                self.bytes += len(effect.payload) if kind in DURING else 0
            elif isinstance(effect, Actuate):
                self._actuated(board, effect, now)

    def served_s(self) -> float:
        """Seconds of service, by the providers' clocks, of sessions that have ended or go on."""
        going = sum(self._now[board] - began for (board, _), began in self._began.items())
        return (self._served_ns + going) / SECOND

    def _actuated(self, board: bytes, actuate: Actuate, now: Instant) -> None:
        flow = (board, actuate.flow)
        if actuate.power_w > 0 and flow not in self._began:
            self._began[flow] = now
            self.sessions += 1
        elif actuate.power_w == 0 and flow in self._began:
            self._served_ns += now - self._began.pop(flow)


def counting(tally: Tally) -> type[Node]:
    """The node's class, with its effects counted on their way out."""

    class CountingNode(Node):
        def handle(self, given: Input, now: Instant) -> list[Effect]:
            """See Node."""
            effects = super().handle(given, now)
            tally.turn(self.me.id, effects, now)
            return effects

        def tick(self, now: Instant) -> list[Effect]:
            """See Node."""
            effects = super().tick(now)
            tally.turn(self.me.id, effects, now)
            return effects

    return CountingNode
