"""Every rule of the checkers fires when it is broken, and says how to see it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest

from demesh import snapshots
from demesh.ledger.state import ACCOUNTS, Account, AccountKind, seal
from demesh.node import Node
from demesh.ports import (
    Adopt,
    Effect,
    Input,
    Instant,
    Journal,
    Persist,
    Publish,
    StoreBlock,
    StoreCheckpoint,
)
from demesh.wire import identity, statements
from demesh.wire.intents import Act, Send
from demesh.wire.readings import Voucher
from demesh.wire.schema import encode
from demesh.wire.signer import Signer
from demesh_consensus.types import Block, Certificate, Statement, StatementKind, Vote
from demesh_sim import scenario as scenarios
from demesh_sim.bare import Bare, Customer, found_bare
from demesh_sim.checkers import Checkers, Run, Violation
from demesh_sim.faults import Faults
from demesh_sim.founding import found, seeded
from demesh_sim.links import PROFILES
from demesh_sim.memory_store import MemoryStore
from demesh_sim.swarm import Swarm, founders
from demesh_sim.virtual import street_swarm

NOTARIZE, NULLIFY, FINALIZE = StatementKind.NOTARIZE, StatementKind.NULLIFY, StatementKind.FINALIZE
BARE: Bare = found_bare(4, seed=1)
BINDING = identity.binding_of(BARE.mesh_id, BARE.genesis.body)
D1, D2 = bytes(32), bytes([1]) * 32


def checkers() -> Checkers:
    names = [member.identity.name for member in BARE.members]
    return Checkers(Run(9, "demesh again"), names, BARE.ids, founders(BARE.genesis))


def pen(voter: int) -> Signer:
    keys = BARE.members[voter].identity
    return Signer(keys.device_key, keys.vote_key, BINDING, 1, b"seed")


def vote(voter: int, kind: StatementKind, view: int, digest: bytes = b"") -> Vote:
    statement = Statement(kind, 0, view, digest)
    return Vote(statement, voter, pen(voter).sign_vote(statement))


def cast(check: Checkers, voter: int, kind: StatementKind, view: int, digest: bytes = b"") -> None:
    """A vote that is journaled, then published."""
    said = vote(voter, kind, view, digest)
    store = MemoryStore()
    store.commit([Journal(b"v" + pen(voter).own_vote(said))])
    publish(check, voter, pen(voter).own_vote(said), store)


def publish(check: Checkers, board: int, frame: bytes, store: MemoryStore | None = None) -> None:
    check.publishing(board, 12_345_000_000, Publish("vote", frame), store or MemoryStore())


def block(height: int, parent: bytes, time_s: int = 5) -> Block:
    return Block(0, height, height - 1, parent, height, time_s, (), bytes(32))


def stored(item: Block, *, voters: int = 3, changes: tuple = (), digest: bytes = b"") -> StoreBlock:
    name = digest or statements.digest_of(item)
    statement = Statement(FINALIZE, item.epoch, item.view, name)
    certificate = Certificate(statement, tuple((voter, bytes(64)) for voter in range(voters)))
    encoded = statements.encode_final(certificate, ())
    return StoreBlock(item.height, statements.encode_block(item), encoded, changes)


def store(check: Checkers, board: int, *effects: Persist) -> None:
    check.persisted(board, 0, effects, MemoryStore())


def test_what_honest_boards_do_is_no_violation() -> None:
    check = checkers()
    for voter in range(4):
        cast(check, voter, NOTARIZE, 1, D1)
        cast(check, voter, FINALIZE, 1, D1)
        cast(check, voter, NOTARIZE, 2, D2)
        cast(check, voter, NULLIFY, 2)
        cast(check, voter, NULLIFY, 2)  # said again
    first = block(1, BARE.mesh_id)
    second = block(2, statements.digest_of(first))
    for board in range(4):
        store(check, board, stored(first))
        store(check, board, stored(second))
        store(check, board, stored(second))
    assert check.heights() == (2, 2, 2, 2)


# -- checkpoints ----------------------------------------------------------------------------------

RECORD = (ACCOUNTS + bytes(16), seal(Account(bytes(16), AccountKind.OWNER, 0, 0)))


def snapshot(item: Block, *records: tuple[bytes, bytes], voters: int = 3) -> StoreCheckpoint:
    """Of a block, with these records, as a node would take it."""
    chunks = tuple((snapshots.id_of(one), one) for one in snapshots.chunks_of(records))
    final = stored(item, voters=voters).certificate or b""
    ids = b"".join(id for id, _ in chunks)
    made = snapshots.Checkpoint(statements.header_of(item), (), final, ids)
    return StoreCheckpoint(item.height, encode(made), chunks)


def adoption(taken: StoreCheckpoint, *records: tuple[bytes, bytes]) -> Adopt:
    return Adopt(taken.height, taken.checkpoint, taken.chunks, records, ())


def test_boards_that_take_one_snapshot_and_one_that_adopts_it_are_no_violation() -> None:
    check, first = checkers(), block(1, BARE.mesh_id)
    for board in (0, 1):
        store(check, board, stored(first, changes=(RECORD,)), snapshot(first, RECORD))
    store(check, 2, adoption(snapshot(first, RECORD), RECORD))
    assert check.adopted == [(2, 1)]


@pytest.mark.parametrize(
    ("taken", "why"),
    [
        (lambda first: snapshot(first, (b"p", b"other")), "not what blocks changed"),
        (lambda first: snapshot(first, RECORD, (b"p", b"more")), "another snapshot here"),
        (lambda first: replace(snapshot(first, RECORD), height=2), "not final anywhere"),
        (
            lambda first: replace(
                snapshot(first, RECORD), chunks=snapshot(first, RECORD, RECORD).chunks
            ),
            "chunks are not its own",
        ),
        (lambda first: snapshot(replace(first, time_s=6), RECORD), "not the finalized block"),
    ],
)
def test_a_snapshot_that_is_not_the_one_of_all_boards_is_found(
    taken: Callable[[Block], StoreCheckpoint], why: str
) -> None:
    check, first = checkers(), block(1, BARE.mesh_id)
    store(check, 0, stored(first, changes=(RECORD,)), snapshot(first, RECORD))
    with pytest.raises(Violation, match=f"checkpoint: voter-1 .*{why}"):
        store(check, 1, stored(first, changes=(RECORD,)), taken(first))


def test_a_checkpoint_without_a_quorum_is_found() -> None:
    check, first = checkers(), block(1, BARE.mesh_id)
    with pytest.raises(Violation, match="certificate: voter-0"):
        store(check, 0, stored(first), snapshot(first, RECORD, voters=2))


def test_adopting_what_others_did_not_have_or_what_is_behind_is_found() -> None:
    first = block(1, BARE.mesh_id)
    second = block(2, statements.digest_of(first))
    forged = (b"p", b"forged")
    for adopted, why in (
        (adoption(snapshot(second, RECORD, forged), RECORD, forged), "not what others had"),
        (adoption(snapshot(second, RECORD), RECORD, forged), "not what others had"),
        (adoption(snapshot(first, RECORD), RECORD), "not what others had"),
    ):
        check = checkers()
        store(check, 0, stored(first, changes=(RECORD,)), stored(second), snapshot(second, RECORD))
        with pytest.raises(Violation, match=f"checkpoint: voter-1 .*{why}"):
            store(check, 1, adopted)
        with pytest.raises(Violation, match=r"checkpoint: voter-0 .*back to height 2"):
            store(check, 0, adoption(snapshot(second, RECORD), RECORD))


def test_a_violation_names_rule_board_time_seed_and_the_command_to_repeat_it() -> None:
    check = checkers()
    cast(check, 2, NOTARIZE, 1, D1)
    with pytest.raises(Violation) as caught:
        cast(check, 2, NOTARIZE, 1, D2)
    assert str(caught.value) == (
        "discipline: voter-2 at 12.345 s, seed 9: NOTARIZE(1) for two digests\nreplay: demesh again"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((NOTARIZE, D1), (NOTARIZE, D2)),
        ((FINALIZE, D1), (FINALIZE, D2)),
        ((FINALIZE, D1), (NULLIFY, b"")),
        ((NULLIFY, b""), (FINALIZE, D1)),
        ((NOTARIZE, D1), (FINALIZE, D2)),
    ],
)
def test_votes_that_exclude_each_other_are_found(
    first: tuple[StatementKind, bytes], second: tuple[StatementKind, bytes]
) -> None:
    check = checkers()
    cast(check, 0, first[0], 7, first[1])
    cast(check, 1, second[0], 7, second[1])  # another voter may
    with pytest.raises(Violation, match="discipline"):
        cast(check, 0, second[0], 7, second[1])


def test_a_vote_that_is_not_in_the_journal_may_not_leave() -> None:
    check = checkers()
    said = vote(1, NULLIFY, 3)
    publish(check, 0, pen(1).own_vote(said))  # passed on for another voter: not its own word
    with pytest.raises(Violation, match=r"durable: voter-1 .* NULLIFY\(3\) leaves"):
        publish(check, 1, pen(1).own_vote(said))
    disk = MemoryStore()
    disk.begin([Journal(b"v" + pen(1).own_vote(said))])  # written, not synced
    with pytest.raises(Violation, match="durable"):
        publish(check, 1, pen(1).own_vote(said), disk)


def test_two_blocks_at_one_height_are_found() -> None:
    check = checkers()
    store(check, 0, stored(block(1, BARE.mesh_id)))
    with pytest.raises(Violation, match=r"agreement: voter-3 .* not the block voter-0 finalized"):
        store(check, 3, stored(block(1, BARE.mesh_id, time_s=6)))


def test_a_gap_a_wrong_parent_and_a_mesh_time_that_goes_back_are_found() -> None:
    first = block(1, BARE.mesh_id)
    name = statements.digest_of(first)
    for bad in (block(3, name), block(2, D1), block(2, name, time_s=4)):
        check = checkers()
        store(check, 0, stored(first))
        with pytest.raises(Violation, match="agreement"):
            store(check, 0, stored(bad))


def test_a_certificate_without_quorum_or_for_something_else_is_found() -> None:
    for bad in (
        stored(block(1, BARE.mesh_id), voters=2),
        stored(block(1, BARE.mesh_id), digest=D2),
        stored(block(1, BARE.mesh_id), voters=5),
    ):
        with pytest.raises(Violation, match="certificate"):
            store(checkers(), 0, bad)


def account(balance: int, floor: int = -100) -> bytes:
    return seal(Account(bytes(16), AccountKind.DEVICE, balance, floor))


def test_money_that_appears_or_falls_below_its_floor_is_found() -> None:
    a, b = ACCOUNTS + bytes(16), ACCOUNTS + bytes([1]) * 16
    first = block(1, BARE.mesh_id)
    store(checkers(), 0, stored(first, changes=((a, account(-40)), (b, account(40)))))
    with pytest.raises(Violation, match=r"money: .* all money is 1"):
        store(checkers(), 0, stored(first, changes=((a, account(-40)), (b, account(41)))))
    with pytest.raises(Violation, match="below its floor"):
        store(checkers(), 0, stored(first, changes=((a, account(-101)), (b, account(101)))))


def test_a_promise_above_the_escrow_is_found() -> None:
    check = checkers()
    channel = bytes([7]) * 16
    fields = [BARE.ids[0], BARE.ids[1], 50, [], 100, 60, None, bytes(16), []]
    payer = (ACCOUNTS + BARE.ids[0], account(-50))
    change = (b"c" + channel, cbor2.dumps(fields))
    store(check, 0, stored(block(1, BARE.mesh_id), changes=(payer, change)))
    publish(check, 0, pen(0).seal(Voucher(channel, 0, 50)))
    with pytest.raises(Violation, match="exposure"):
        publish(check, 0, pen(0).seal(Voucher(channel, 0, 51)))


# -- boards that misbehave, in a real swarm --------------------------------------------------------


class WithoutJournal(Node):
    """Never writes its votes down."""

    def handle(self, given: Input, now: Instant) -> list[Effect]:
        effects = super().handle(given, now)
        return [effect for effect in effects if not isinstance(effect, Journal)]


class Turncoat(Node):
    """Nullifies every view it has finalized, well journaled."""

    def handle(self, given: Input, now: Instant) -> list[Effect]:
        effects = super().handle(given, now)
        for effect in tuple(effects):
            if isinstance(effect, Publish) and "/vote/" in effect.topic:
                view = self._validator.check(effect.payload)
                said = getattr(view, "kind", None) == 2 and cbor2.loads(bytes(view.payload))
                if said and said[0] == FINALIZE:
                    statement = Statement(NULLIFY, said[1], said[2])
                    turned = Vote(statement, self.me.voter, self._signer.sign_vote(statement))
                    frame = self._signer.own_vote(turned)
                    effects += [Journal(b"v" + frame), Publish(effect.topic, frame)]
        return effects


class Forger(Node):
    """Stores money in its own books that no block made."""

    def handle(self, given: Input, now: Instant) -> list[Effect]:
        return [
            replace(effect, changes=(*effect.changes, (ACCOUNTS + self.me.id, account(5))))
            if isinstance(effect, StoreBlock)
            else effect
            for effect in super().handle(given, now)
        ]


class Spendthrift(Node):
    """Promises what it is asked and a credit more, whatever its own meter says."""

    def _acts(self, acts: Sequence[Act], now: Instant) -> list[Effect]:
        more: list[Act] = []
        for act in acts:
            match act:
                case Send(to, Voucher(channel, lane, cum)):
                    more.append(Send(to, Voucher(channel, lane, cum + 1_000_000)))
                case _:
                    more.append(act)
        return super()._acts(more, now)


def test_a_payer_that_promises_more_than_its_meter_saw_is_found() -> None:
    scenario = scenarios.load(Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml")
    honest = street_swarm(scenario, found(scenario, 1, seeded(7)), 7)
    honest.run(12)
    assert honest.promises.checked > 10
    swarm = street_swarm(scenario, found(scenario, 1, seeded(7)), 7, make_node=Spendthrift)
    with pytest.raises(Violation, match=r"^(promise|exposure)"):
        swarm.run(12)


@pytest.mark.parametrize(
    ("kind", "rule"), [(WithoutJournal, "durable"), (Turncoat, "discipline"), (Forger, "money")]
)
def test_a_swarm_with_one_board_that_misbehaves_does_not_get_far(
    kind: type[Node], rule: str
) -> None:
    members = [replace(BARE.members[0], make_node=kind), *BARE.members[1:]]
    swarm = Swarm(members, BARE.genesis, 3, PROFILES["ethernet"], Faults(), replay="so")
    Customer(swarm, BARE, 200, 20)
    with pytest.raises(Violation, match=f"^{rule}: voter-0 .*\nreplay: so$"):
        swarm.run(20)


def test_the_founders_are_those_of_the_genesis() -> None:
    found = founders(BARE.genesis)
    assert found.devices == BARE.ids
    assert found.quorum == 3
    assert len({identity.text(kid) for kid in found.kids}) == 4
