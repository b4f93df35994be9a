"""What people see of a node: one-way JSON documents and lines, made from what the core knows.

Nothing that decides reads any of it. Ids are text, amounts micro-credits, energy Wh, power W.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import fields

from demesh.ledger.events import ChannelEvent, Event, Settled, Transferred
from demesh.ledger.state import Result
from demesh.membership.directory import Directory, Member
from demesh.membership.presence import Presence
from demesh.passport import Place, place_of
from demesh.ports import MILLISECOND, SECOND, Effect, Instant, Json, Measurement, Observe
from demesh.voting import Voting
from demesh.wire import identity
from demesh.wire.frame import KID_BYTES
from demesh.wire.opbodies import Claim, Close, OpBody
from demesh_consensus import Block, Vote

# A state document at most this often: what a person can read, and 8 boards stay below 10 kB/s.
STATE_EVERY = SECOND

# Views whose proposal time is remembered: those in flight, and some that never become final.
_PROPOSED_MAX = 64

# At a standstill everybody repeats itself within some seconds: who does not is not there.
HEARD_WITHIN = 10 * SECOND

_REPLACE = "this vote key votes no more; replace it with demesh member renew-vote-key"

_MEASURED = ("power_w", "demand_w", "supply_w", "stored_wh")


class Report:
    """Documents of one node."""

    def __init__(
        self,
        directory: Directory,
        presence: Presence,
        voting: Voting,
        rejects: Callable[[], Counter[str]],
        flooded: Callable[[Instant], list[tuple[str, bytes]]],
        mesh: str,
        vote_id: bytes,
        report_ms: int,
    ) -> None:
        self._directory, self._presence = directory, presence
        self._voting, self._application = voting, voting.application
        self._rejects, self._flooded = rejects, flooded
        self._mesh, self._vote_id = mesh, vote_id
        self._placed: tuple[object, ...] | None = None
        self._measured_every = report_ms * MILLISECOND
        self._shown: dict[str, Json] = {}
        self._shown_at: Instant | None = None
        self._due: Instant | None = None
        self._proposed: OrderedDict[int, Instant] = OrderedDict()
        self._had_quorum = False
        self._still_told = 0  # the length of a standstill of which people were told last, in ns

    # -- state ------------------------------------------------------------------------------------

    def deadline(self) -> Instant | None:
        """When a state document that was held back is due."""
        return self._due

    def state(self, measurement: Measurement, now: Instant) -> list[Effect]:
        """The state document, if it changed and the last one is old enough."""
        if self._due is not None and now < self._due:
            return []
        if self._shown_at is not None and now < self._shown_at + STATE_EVERY:
            self._due = self._shown_at + STATE_EVERY
            return []
        document = self._state(measurement, now)
        changed = [key for key, value in document.items() if self._shown.get(key) != value]
        self._due = None
        if not changed:
            return []
        if self._shown_at is not None and all(key in _MEASURED for key in changed):
            quiet_until = self._shown_at + self._measured_every
            if now < quiet_until:
                return []
        lines = [*self._quorum(), *self._floods(document["flooded"])]
        self._shown, self._shown_at = document, now
        return [*lines, Observe("state", document)]

    def _state(self, measurement: Measurement, now: Instant) -> dict[str, Json]:
        core, ledger, me = self._voting.core, self._application.ledger, self._directory.me
        account = ledger.account(me.id)
        return {
            "name": me.name,
            "class": me.certificate.device_class,
            "owner": me.owner_name,
            "epoch": core.voters.epoch,
            "view": core.view,
            "height": core.tip.height,
            "time_s": core.tip.time_s,
            "root": ledger.root.hex(),
            "voting": core.voting,
            "quarantined": core.recall.quarantined,
            "up": [m.name for m in self._directory.members if self._presence.is_up(m.id)],
            "quorum": {"have": self._have(), "need": core.voters.quorum, "of": core.voters.total},
            "balance": account.balance if account else 0,
            **{key: getattr(measurement, key) for key in _MEASURED},
            "rejects": dict(sorted(self._rejects().items())),
            "flooded": [
                f"{area}/{self._directory.name(device)}" for area, device in self._flooded(now)
            ],
        }

    def _have(self) -> int:
        return sum(m.weight for m in self._directory.voters if self._presence.is_up(m.id))

    def _quorum(self) -> list[Effect]:
        """A line when enough voters are up, and when no longer."""
        voters, have = self._voting.core.voters, self._have()
        has = have >= voters.quorum
        if has == self._had_quorum:
            return []
        self._had_quorum = has
        if has:
            return [_line(f"quorum: have {have} of {voters.total}, need {voters.quorum}")]
        return [_line(self._no_quorum(have))]

    def _floods(self, places: Json) -> list[Effect]:
        """A line when a flood begins or spreads, and when there is none any more."""
        before = self._shown.get("flooded") or []
        assert isinstance(places, list)
        assert isinstance(before, list)
        if set(map(str, places)) <= set(map(str, before)):
            return [_line("the flood is over")] if before and not places else []
        listed = ", ".join(map(str, places))
        return [_line(f"flood on {listed}: what means nothing or is too much is dropped")]

    def _no_quorum(self, have: int) -> str:
        voters = self._voting.core.voters
        return f"no quorum: have {have} of {voters.total}, need {voters.quorum}"

    # -- lines for people -------------------------------------------------------------------------

    def place(self) -> list[Effect]:
        """What I am in the mesh, once that has changed; at the start, if something is missing."""
        me, core = self._directory.me, self._voting.core
        place = place_of(self._directory, self._vote_id)
        before, now = self._placed, (place, me.weight, core.recall.quarantined)
        if now == before:
            return []
        self._placed = now
        match place:
            case Place.GUEST:
                return [
                    _line(
                        f"not a member of {self._mesh} yet: listening; "
                        f"its owners take it in with demesh member set {me.name}"
                    )
                ]
            case Place.STRANGE_KEY:
                return [
                    _line(
                        f"{self._mesh} has another vote key of {me.name} on record: observing "
                        "until its owner changes that (demesh member set) or puts the old one back"
                    )
                ]
            case _ if core.recall.quarantined:
                told = before == (place, me.weight, False)  # by `quarantined`, just now
                return [] if told else [_line(f"quarantined at an earlier time: {_REPLACE}")]
            case _ if before is None:
                return []
            case Place.OBSERVER:
                return [_line(f"a member of {self._mesh} with weight 0: it observes")]
            case Place.VOTER:
                share = f"weight {me.weight} of {core.voters.total}"
                return [_line(f"votes from epoch {core.voters.epoch} on, with {share}")]

    def came(self, member: Member) -> list[Effect]:
        """A device was heard."""
        return [_line(f"{member.name} of {member.owner_name} is up")]

    def went(self, member: Member) -> list[Effect]:
        """A device's connection ended."""
        return [_line(f"{member.name} of {member.owner_name} is gone")]

    def standing_still(self, since_ns: int, now: Instant) -> list[Effect]:
        """Work waits and nothing is decided: told after a second, and when it is twice as long."""
        if since_ns < self._still_told:
            self._still_told = 0
        if since_ns < max(SECOND, 2 * self._still_told):
            return []
        self._still_told = since_ns
        voters, have = self._voting.core.voters, self._have()
        if have < voters.quorum:
            return [_line(self._no_quorum(have))]
        # Who is cut off behind a bridge is not reported gone by anybody.
        since = now - max(since_ns, HEARD_WITHIN)
        me = self._directory.me.id
        heard = [m for m in self._directory.voters if m.id == me or self._hears(m, since)]
        weight = sum(m.weight for m in heard)
        told = f"no decision for {since_ns // SECOND} s: "
        if weight < voters.quorum:
            return [_line(f"{told}heard {weight} of {voters.total} lately, need {voters.quorum}")]
        return [_line(f"{told}repeating what is known")]

    def _hears(self, member: Member, since: Instant) -> bool:
        return not self._presence.silent_since(member.id, since)

    def failed(self, body: OpBody, result: Result) -> list[Effect]:
        """The ledger refused an op of mine; a claim that others made first is no news.

        Nor is an op that is only put off.
        """
        if isinstance(body, Claim | Close) or not result.final:
            return []
        return [_line(f"the ledger refused a {type(body).__name__}: {result.name}")]

    def misbehaved(self, device: bytes, first: Vote, second: Vote) -> list[Effect]:
        """Two votes of one device exclude each other."""
        name = self._directory.name(device)
        said = f"{first.statement.kind.name} and {second.statement.kind.name}"
        view = first.statement.view
        return [_line(f"{name} contradicts itself in view {view}: {said}")]

    def quarantined(self, vote: Vote) -> list[Effect]:
        """This device must not vote any more."""
        statement = vote.statement
        return [
            _line(
                f"quarantined: a {statement.kind.name} of mine for view {statement.view} exists "
                f"that my journal lacks; {_REPLACE}"
            )
        ]

    # -- decisions and money ----------------------------------------------------------------------

    def proposed(self, view: int, now: Instant) -> None:
        """A view's proposal was first seen."""
        if view not in self._proposed:
            self._proposed[view] = now
            if len(self._proposed) > _PROPOSED_MAX:
                self._proposed.popitem(last=False)

    def decision(self, block: Block, leader: bytes, now: Instant) -> list[Effect]:
        """A block is final; this device led its view."""
        seen = self._proposed.pop(block.view, None)
        document: dict[str, Json] = {
            "height": block.height,
            "epoch": block.epoch,
            "view": block.view,
            "leader": self._directory.name(leader),
            "mine": leader == self._directory.me.id,
            "time_s": block.time_s,
            "ops": len(block.ops),
            "root": block.state_root.hex(),
            "finality_ms": None if seen is None else (now - seen) // MILLISECOND,
        }
        return [Observe("decision", document)]

    def ledger(self, block: Block, events: Sequence[Event]) -> list[Effect]:
        """What a block did to money and members."""
        if not events:
            return []
        listed: list[Json] = [self._event(event) for event in events]
        effects: list[Effect] = [Observe("ledger", {"height": block.height, "events": listed})]
        me = self._directory.me.id
        effects += [
            _line(self._settled(event))
            for event in events
            if isinstance(event, Settled) and event.payee == me
        ]
        return effects

    def _event(self, event: Event) -> Json:
        name = self._directory.name
        document: dict[str, Json] = {"event": type(event).__name__.lower()}
        if isinstance(event, Transferred | ChannelEvent):
            document |= {"from": name(event.payer), "to": name(event.payee)}
        for field in fields(event):
            value = getattr(event, field.name)
            if field.name == "shares":
                value = [[identity.text(account), amount] for account, amount in value]
            elif isinstance(value, bytes):
                value = identity.text(value) if len(value) == KID_BYTES else value.hex()
            document[field.name] = value
        return document

    def _settled(self, event: Settled) -> str:
        name = self._directory.name
        return (
            f"settled: {name(event.payer)} paid {credits_text(event.paid)}, "
            f"{name(event.payee)} got {credits_text(event.received)}, "
            f"fee {credits_text(event.fee)}, back {credits_text(event.refund)} ({event.why})"
        )


def credits_text(amount: int) -> str:
    """Micro-credits as credits with six digits, the last ones left out where they are 0."""
    whole, rest = divmod(abs(amount), 1_000_000)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{digits}"


def _line(text: str) -> Observe:
    return Observe("event", {"text": text}, text)
