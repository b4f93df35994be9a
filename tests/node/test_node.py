"""One node at a time: what it lets in, what it says, what it keeps. Real keys, frames, store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nacl.signing import SigningKey

from demesh.errors import ConfigError, StorageError
from demesh.ledger.enrolment import enrol
from demesh.ledger.ops import SignedOp
from demesh.news import Decided
from demesh.node import Node, NodeSettings
from demesh.past import Standing, standing_of
from demesh.ports import (
    SECOND,
    Effect,
    Journal,
    Keep,
    Linked,
    Measured,
    Measurement,
    Observe,
    Publish,
    Received,
    Restored,
    Stopping,
    StoreBlock,
    StoredBlock,
)
from demesh.wire import identity, statements
from demesh.wire.kinds import Kind
from demesh.wire.messages import Recall, Recalled, Want
from demesh.wire.offers import Ack, Card
from demesh.wire.opbodies import Transfer
from demesh.wire.schema import decode
from demesh.wire.sealing import Sealer
from demesh.wire.signer import Signer
from demesh.wire.topics import Topics
from demesh.wire.validate import Validator, View
from demesh_consensus import Block, Statement, StatementKind, Vote
from demesh_sim.bare import BEGINS_S, found_bare

BARE = found_bare(4, seed=5)
BINDING = identity.binding_of(BARE.mesh_id, BARE.genesis.body)
RULES = BARE.genesis.body.rules_version
UNASKED = Recalled(bytes(8), (), b"", 0, 0)
SETTINGS = NodeSettings(None, None, 250, b"seed of the tests")


def node_of(index: int, restored: Restored | None = None, **given: object) -> Node:
    settings = replace(SETTINGS, **given)  # type: ignore[arg-type]
    return Node(BARE.members[index].identity, BARE.genesis, restored or Restored(), settings, 0)


def pen_of(index: int, boot: int = 1) -> Signer:
    """Another member's keys, used by hand."""
    keys = BARE.members[index].identity
    return Signer(keys.device_key, keys.vote_key, BINDING, boot, b"pen %d" % index)


def topic(publisher: int, area: str) -> str:
    return Topics(BARE.mesh_id, BARE.ids[publisher]).mine(area)


def direct(sender: int, receiver: int) -> str:
    return Topics(BARE.mesh_id, BARE.ids[sender]).to(BARE.ids[receiver])


def device_key(index: int) -> SigningKey:
    return BARE.members[index].identity.device_key


def sealed(sender: int, receiver: int, frame: bytes) -> Received:
    """What one member says to another."""
    peer = bytes(device_key(receiver).verify_key)
    closed = Sealer(device_key(sender), BINDING, 2**32).seal(peer, frame)
    return Received(direct(sender, receiver), closed)


def opened(message: Publish) -> bytes:
    """The frame in a publication of any member's, sealed or not."""
    area, *_ = message.topic.split("/")[3:]
    if area != "to":
        return message.payload
    receiver, sender = (
        BARE.ids.index(identity.parse(one)) for one in message.topic.split("/")[4:6]
    )
    sealer = Sealer(device_key(receiver), BINDING, 1)
    frame = sealer.open(bytes(device_key(sender).verify_key), message.payload)
    assert isinstance(frame, bytes)
    return frame


def published(effects: list[Effect], kind: Kind) -> list[View]:
    validator = Validator(BINDING)
    for member in BARE.genesis.body.devices:
        for key in (member.certificate.device_key, member.certificate.vote_key):
            validator.enrol(identity.device_id(key), key)
    views = [validator.check(opened(e)) for e in effects if isinstance(e, Publish)]
    return [view for view in views if isinstance(view, View) and view.kind is kind]


def clear(node: Node, now: int = 0) -> list[Effect]:
    """All others answer the node's recall: they hold no vote of its own."""
    asked = published(node.start(now), Kind.RECALL)
    nonce = decode(Recall, asked[0].payload).nonce
    effects: list[Effect] = []
    for index, id in enumerate(BARE.ids):
        if id != node.me.id:
            answer = pen_of(index).seal(Recalled(nonce, (), b"", 0, 0))
            effects += node.handle(sealed(index, BARE.ids.index(node.me.id), answer), now)
    return effects


@pytest.mark.parametrize(
    ("place", "frame", "code"),
    [
        (topic(1, "vote"), b"\x00garbage", "SHAPE"),
        (topic(1, "op"), b"", "SIZE"),
        (topic(1, "vote"), pen_of(1).op(Transfer(BARE.ids[0], 5), 2_000_000_000), "TOPIC"),
        (direct(2, 0), sealed(2, 0, pen_of(1).seal(Want(1, 0))).payload, "TOPIC"),
        (direct(2, 0), sealed(1, 0, pen_of(1).seal(Want(1, 0))).payload, "SEAL"),
        (direct(1, 0), sealed(1, 2, pen_of(1).seal(Want(1, 0))).payload, "SEAL"),
        (direct(1, 0), pen_of(1).seal(Want(1, 0)), "SEAL"),
        ("demesh/1/elsewhere/vote/x", b"", "TOPIC"),
        (topic(1, "op"), pen_of(1).op(Transfer(BARE.ids[0], 5), 1), "STALE"),
        (direct(1, 0), sealed(1, 0, pen_of(1).seal(UNASKED)).payload, "STALE"),
    ],
    ids=[
        "garbage",
        "empty",
        "kind",
        "publisher",
        "sealer",
        "receiver",
        "not sealed",
        "topic",
        "expired op",
        "unasked answer",
    ],
)
def test_what_does_not_belong_is_counted_by_its_code_and_changes_nothing(
    place: str, frame: bytes, code: str
) -> None:
    node = node_of(0)
    node.start(0)
    root = node.application.ledger.root
    effects = node.handle(Received(place, frame), SECOND // 2)
    assert node.rejects[code] == 1
    assert not [e for e in effects if isinstance(e, Publish | Journal | StoreBlock)]
    assert node.application.ledger.root == root and not list(node.application.pool)


def test_a_signal_counts_once() -> None:
    node, frame = node_of(0), pen_of(1).seal(Ack(bytes(16)))
    node.start(0)
    node.handle(sealed(1, 0, frame), 0)
    node.handle(sealed(1, 0, frame), 1)
    assert node.rejects["REPLAY"] == 1


def test_a_card_of_boot_0_or_of_an_earlier_revision_is_no_reason_to_fall_over() -> None:
    node = node_of(0)
    node.start(0)
    certificate = BARE.genesis.body.devices[1].certificate
    for boot, revision in ((0, 0), (0, 0), (2, 5), (2, 4)):
        frame = pen_of(1).seal(Card(boot, revision, certificate, ()))
        node.handle(Received(topic(1, "card"), frame), 0)
    assert node.rejects == {"STALE": 1}


def test_the_kept_replay_mark_never_goes_back() -> None:
    node, pen = node_of(0), pen_of(1)
    node.start(0)
    frames = [pen.seal(Ack(bytes(16))) for _ in range(3)]
    marks = [
        keep.value
        for frame in (frames[2], frames[0])
        for keep in node.handle(sealed(1, 0, frame), 0)
        if isinstance(keep, Keep) and keep.space == "window"
    ]
    assert marks[0] == marks[1]


def test_the_replay_window_survives_a_restart() -> None:
    first, frame = node_of(0), pen_of(1).seal(Ack(bytes(16)))
    effects = first.handle(sealed(1, 0, frame), 0)
    kept = tuple((k.space, k.key, k.value or b"") for k in effects if isinstance(k, Keep))
    again = node_of(0, Restored(kept=kept))
    again.handle(sealed(1, 0, frame), 0)
    assert again.rejects["REPLAY"] == 1


def test_an_op_may_be_passed_on_by_anybody() -> None:
    node = node_of(0)
    node.start(0)
    frame = pen_of(1).op(Transfer(BARE.ids[0], 5), BARE.genesis.body.time_s + 60)
    node.handle(Received(topic(2, "op"), frame), 0)
    node.handle(Received(topic(3, "op"), frame), 0)
    assert [p.frame for p in node.application.pool] == [frame]


def test_its_own_publication_that_comes_back_is_no_news() -> None:
    node = node_of(0)
    clear(node)
    statement = Statement(StatementKind.NULLIFY, 0, 3, b"", RULES)
    pen = pen_of(0)
    vote = Vote(statement, node.me.voter or 0, pen.sign_vote(statement))
    frame = statements.vote_frame(vote, pen.binding, pen.vote_id)
    assert not [e for e in node.handle(Received(topic(0, "vote"), frame), 0) if e]
    assert not node.consensus.votes_of(0) and not node.rejects


def test_an_op_that_its_owners_tools_publish_in_its_name_is_taken_and_repeated_if_need_be() -> None:
    node = node_of(0)
    clear(node)
    frame = pen_of(0).op(Transfer(BARE.ids[1], 5), BARE.genesis.body.time_s + 60)
    for _ in range(2):
        node.handle(Received(topic(0, "op"), frame), 0)
    assert [p.frame for p in node.application.pool] == [frame] and not node.rejects
    assert node.voting.repeat_ops() == [Publish(topic(0, "op"), frame)]


def test_a_card_that_came_before_its_device_joined_is_heard_when_that_is_decided() -> None:
    bare = found_bare(4, seed=5, newcomers=1)
    node = Node(bare.members[0].identity, bare.genesis, Restored(), SETTINGS, 0)
    node.start(0)
    keys = bare.newcomers[0].identity
    assert keys.certificate is not None
    binding = identity.binding_of(bare.mesh_id, bare.genesis.body)
    newcomer = Signer(keys.device_key, keys.vote_key, binding, 1, b"new")
    early = Received(
        Topics(bare.mesh_id, newcomer.id).mine("card"),
        newcomer.seal(Card(1, 1, keys.certificate, ())),
        retained=True,
    )
    node.handle(early, 0)
    assert node.rejects == {"TOPIC": 1} and not node._cards.devices

    ledger = node.application.ledger
    body = enrol(ledger, keys.certificate, 0, bare.owners)
    op = SignedOp(bytes(32), bare.ids[1], ledger.time_s + 60, body)
    applied = ledger.apply((op,), ledger.time_s, lambda _: None)
    node.voting._seats.renew(applied.ledger)
    block = Block(0, 1, 0, bare.mesh_id, 1, ledger.time_s, (), applied.ledger.root)
    node._told([Decided(block, bare.ids[1], applied)], 0)
    assert node._cards.devices == (newcomer.id,)


def test_no_vote_leaves_before_quorum_weight_answered_the_recall() -> None:
    node = node_of(0)
    node.start(0)
    frame = pen_of(1).op(Transfer(BARE.ids[0], 5), BARE.genesis.body.time_s + 60)
    effects = node.handle(Received(topic(1, "op"), frame), 0)
    for second in range(1, 20):
        effects += node.tick(second * SECOND)
    assert not published(effects, Kind.VOTE) and not published(effects, Kind.PROPOSAL)


def test_a_vote_is_journaled_in_the_turn_that_publishes_it() -> None:
    node = node_of(0)
    clear(node)
    frame = pen_of(1).op(Transfer(BARE.ids[0], 5), BARE.genesis.body.time_s + 60)
    effects = node.handle(Received(topic(1, "op"), frame), 0)
    while not published(effects, Kind.VOTE) and not published(effects, Kind.PROPOSAL):
        now = node.deadline()
        assert now is not None
        effects = node.tick(now)
    assert any(isinstance(e, Journal) for e in effects)


def test_a_vote_of_mine_that_my_journal_lacks_ends_my_voting_for_good() -> None:
    node = node_of(0)
    asked = published(node.start(0), Kind.RECALL)
    nonce = decode(Recall, asked[0].payload).nonce
    statement = Statement(StatementKind.NULLIFY, 0, 3, b"", RULES)
    pen = pen_of(0)
    vote = Vote(statement, node.me.voter or 0, pen.sign_vote(statement))
    lost = statements.vote_frame(vote, pen.binding, pen.vote_id)
    answer = pen_of(1).seal(Recalled(nonce, (lost,), b"", 0, 0))
    effects = node.handle(sealed(1, 0, answer), 0)
    assert not node.consensus.voting
    records = tuple(e.record for e in effects if isinstance(e, Journal))
    assert standing_of(records).given_up == pen.vote_id
    again = node_of(0, Restored(journal=records))
    assert not published(again.start(0), Kind.RECALL)
    assert not again.consensus.voting


def test_a_recall_is_answered_with_what_is_held_of_the_asker() -> None:
    node, pen = node_of(0), pen_of(2)
    node.start(0)
    statement = Statement(StatementKind.NULLIFY, 0, 1, b"", RULES)
    voter = node.directory.voter(pen.vote_id)
    assert voter is not None and voter.voter is not None
    vote = Vote(statement, voter.voter, pen.sign_vote(statement))
    frame = statements.vote_frame(vote, pen.binding, pen.vote_id)
    node.handle(Received(topic(2, "vote"), frame), 0)
    effects = node.handle(sealed(2, 0, pen.seal(Recall(b"question"))), 0)
    answer = decode(Recalled, published(effects, Kind.RECALLED)[0].payload)
    assert answer.nonce == b"question" and answer.votes == (frame,)


def test_a_broker_that_comes_back_gets_the_card_again_retained() -> None:
    node = node_of(0)
    node.start(0)
    cards = [
        e
        for up in (True, False, True)
        for e in node.handle(Linked(0, up), 0)
        if isinstance(e, Publish) and e.topic == topic(0, "card")
    ]
    assert len(cards) == 2 and all(card.retain for card in cards)


def test_a_stopping_device_says_farewell_in_its_boots_name() -> None:
    node = node_of(0, Restored(journal=(Standing(boot=6).record(),)))
    node.start(0)
    assert Publish(topic(0, "gone"), b"7") in node.handle(Stopping(), 0)


def test_boots_are_counted_on_when_either_store_is_lost() -> None:
    for restored in (
        Restored(journal=(Standing(boot=6).record(),)),
        Restored(kept=(("boot", b"", (6).to_bytes(8, "big")),)),
    ):
        assert node_of(0, restored).will[1] == b"7"


def test_a_farewell_of_an_earlier_boot_does_not_count() -> None:
    node, pen = node_of(0), pen_of(1, boot=5)
    node.start(0)
    card = node_of(1, Restored(journal=(Standing(boot=4).record(),)))
    frame = next(
        e.payload
        for e in card.handle(Linked(0, True), 0)
        if isinstance(e, Publish) and e.topic == topic(1, "card")
    )
    node.handle(Received(topic(1, "card"), frame), 0)
    node.handle(sealed(1, 0, pen.seal(Want(9, 0))), 0)
    node.handle(Received(topic(1, "gone"), b"4"), 0)
    assert node.presence.is_up(BARE.ids[1])
    node.handle(Received(topic(1, "gone"), b"5"), SECOND)
    assert not node.presence.is_up(BARE.ids[1])


def test_at_a_standstill_a_node_says_its_share_of_the_oldest_ops_again() -> None:
    node = node_of(0)
    clear(node)
    frames = [pen_of(1).op(Transfer(BARE.ids[0], n), BEGINS_S + 60) for n in range(1, 41)]
    for frame in frames:
        assert node.application.submit(frame, BEGINS_S) is None
    assert [e.payload for e in node.voting.repeat_ops() if isinstance(e, Publish)] == frames[:16]


def test_a_leader_whose_connection_ended_is_not_waited_for() -> None:
    core = node_of(0).consensus
    gone, me = core.voters.leader(1), core.voters.leader(2)
    node = node_of(me)
    clear(node)
    frame = pen_of(me).op(Transfer(BARE.ids[gone], 5), BEGINS_S + 60)
    node.handle(Received(topic(gone, "op"), frame), 0)
    assert not published(node.tick(1), Kind.VOTE)
    effects = node.handle(Received(topic(gone, "gone"), b"1"), 2)
    (vote,) = published(effects, Kind.VOTE)
    assert statements.decode_statement(vote.payload) == Statement(
        StatementKind.NULLIFY, 0, 1, b"", RULES
    )


def test_state_is_shown_at_most_once_a_second_and_mere_measurements_less_often() -> None:
    node = node_of(0, report_ms=10_000)
    effects = node.start(0)
    for tenth in range(1, 200):
        effects += node.handle(Measured(Measurement(tenth)), tenth * SECOND // 10)
    shown = [e for e in effects if isinstance(e, Observe) and e.topic == "state"]
    assert 2 <= len(shown) <= 3


def test_keys_of_another_device_are_refused_in_one_line() -> None:
    stranger = replace(BARE.members[0].identity, name="somebody")
    with pytest.raises(ConfigError, match=r"certificate says 'voter-0'"):
        Node(stranger, BARE.genesis, Restored(), SETTINGS, 0)
    other = found_bare(4, seed=6)
    with pytest.raises(ConfigError, match="is not a member of bare"):
        Node(other.members[0].identity, BARE.genesis, Restored(), SETTINGS, 0)


def test_records_that_do_not_give_the_tips_root_are_refused() -> None:
    time_s = BARE.genesis.body.time_s
    block = statements.encode_block(Block(0, 1, 0, BARE.mesh_id, 1, time_s, (), bytes(32)))
    with pytest.raises(StorageError, match="state root of block 1"):
        node_of(0, Restored(tip=StoredBlock(1, block, b"")))
