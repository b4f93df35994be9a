"""Blocks, votes and nodes of two epochs: four voters, and the block that seats a fifth."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.cluster import (
    FOUNDERS,
    GENESIS,
    MS,
    SECOND,
    SEED,
    START,
    Log,
    digest_of,
    signature,
    state_of,
)
from consensus.test_simplex import FINALIZE, NOTARIZE, NULLIFY
from demesh_consensus import (
    AskBlocks,
    Block,
    Broadcast,
    Certificate,
    Effect,
    Epochs,
    Proposal,
    PublishTip,
    Record,
    Statement,
    StatementKind,
    Timing,
    Vote,
    Voters,
)
from demesh_consensus.chain import filler
from demesh_sim.campaign.ledger import Roll, State, seat

FIVE = (*FOUNDERS, 0)  # four voters and an observer
IN = seat(4, 1, 0)
TS = 2 * SECOND


# -- blocks with the states after them ------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A block, and what the application knows after it."""

    block: Block | None
    state: State

    @property
    def digest(self) -> bytes:
        return digest_of(self.block) if self.block else GENESIS


ROOT = Place(None, state_of(weights=FIVE))


def on(parent: Place, view: int, *ops: bytes, time_s: int = START.time_s) -> Place:
    """A good next block in the epoch of the state that it stands on."""
    state, before = parent.state.after(ops), parent.state.roll
    below = parent.block
    inside = below is not None and below.epoch == before.epoch
    block = Block(
        before.epoch,
        view,
        below.view if below and inside else 0,
        parent.digest,
        below.height + 1 if below else 1,
        time_s,
        ops,
        state.root,
        state.roll != before,
    )
    return Place(block, state)


def above(parent: Place, view: int) -> Place:
    """An empty block that helps a closing one to become final."""
    assert parent.block is not None
    return Place(filler(view, parent.block, parent.digest), parent.state)


S = on(ROOT, 1, IN)
N = on(S, 1, b"n")


def voters_of(roll: Roll) -> Voters:
    return Voters(roll.epoch, roll.weights, SEED)


OLD_ROLL, NEW_ROLL = ROOT.state.roll, S.state.roll
OLD, NEW = voters_of(OLD_ROLL), voters_of(NEW_ROLL)


def certificate(
    kind: StatementKind,
    view: int,
    digest: bytes = b"",
    roll: Roll = OLD_ROLL,
    by: tuple[int, ...] | None = None,
) -> Certificate:
    statement = Statement(kind, roll.epoch, view, digest)
    everybody = [voter for voter, weight in enumerate(roll.weights) if weight]
    signers = everybody if by is None else by
    signed = tuple((v, signature(v, statement, roll.keys[v])) for v in signers)
    return Certificate(statement, signed)


def final(place: Place, roll: Roll = OLD_ROLL, by: tuple[int, ...] | None = None) -> Certificate:
    assert place.block is not None
    return certificate(FINALIZE, place.block.view, place.digest, roll, by)


def proposal(place: Place, *inside: Certificate, roll: Roll = OLD_ROLL) -> Proposal:
    block = place.block
    assert block is not None
    leader = voters_of(roll).leader(block.view)
    statement = Statement(NOTARIZE, block.epoch, block.view, place.digest)
    return Proposal(
        block, inside, Vote(statement, leader, signature(leader, statement, roll.keys[leader]))
    )


def node(
    me: int | None, weights: tuple[int, ...] = FIVE, log: Log | None = None, **given: object
) -> Epochs:
    """At the genesis; all others answered that they hold no vote of it."""
    arguments = {"tip": START, "timing": Timing(), "salt": b"s", "now": 0} | given
    return cleared(Epochs(log or Log(me, weights), **arguments))  # type: ignore[arg-type]


def cleared(epochs: Epochs, now: int = 0) -> Epochs:
    for voter in range(len(epochs.core.voters.weights)):
        if voter != epochs.core.me:
            epoch = epochs.core.voters.epoch
            epochs.receive_recalled(voter, (), epoch, epochs.core.tip.time_s, now)
    return epochs


def handed_over(me: int | None, closing: Place = S, **given: object) -> Epochs:
    """In epoch 1, and with its voices heard."""
    epochs = node(me, **given)  # type: ignore[arg-type]
    epochs.receive_proposal(proposal(closing), 0)
    epochs.receive_certificate(final(closing), 0)
    assert epochs.core.voters.epoch == 1
    return cleared(epochs)


def other_than(*voters: int) -> int:
    return next(voter for voter in range(4) if voter not in voters)


def asked(effects: list[Effect]) -> list[AskBlocks]:
    return [effect for effect in effects if isinstance(effect, AskBlocks)]


def tips(effects: list[Effect]) -> list[Certificate]:
    return [effect.certificate for effect in effects if isinstance(effect, PublishTip)]


def recorded(effects: list[Effect]) -> list[Vote | Proposal | Certificate]:
    return [effect.entry for effect in effects if isinstance(effect, Record)]


def ticked(epochs: Epochs, since: int, until: int, step: int = 100 * MS) -> list[Effect]:
    """What it does by itself."""
    effects: list[Effect] = []
    for now in range(since, until, step):
        effects += epochs.tick(now)
    return effects


def proposals_in(effects: list[Effect]) -> list[Proposal]:
    sent = [effect.message for effect in effects if isinstance(effect, Broadcast)]
    return [message for message in sent if isinstance(message, Proposal)]


def by_own_certificate(me: int | None) -> Epochs:
    epochs = node(me)
    epochs.receive_proposal(proposal(S), 0)
    epochs.receive_certificate(final(S), 0)
    return epochs


def by_an_empty_block(me: int | None, **given: object) -> tuple[Epochs, list[Effect]]:
    epochs = node(me, **given)  # type: ignore[arg-type]
    second, third = above(S, 2), above(above(S, 2), 5)
    for place in (S, second):
        assert place.block is not None
        epochs.receive_proposal(proposal(place), 0)
        epochs.receive_certificate(certificate(NOTARIZE, place.block.view, place.digest), 0)
    skipped = (certificate(NULLIFY, 3), certificate(NULLIFY, 4))
    effects = epochs.receive_proposal(proposal(third, *skipped), 0)
    return epochs, effects + epochs.receive_certificate(final(third), 0)
