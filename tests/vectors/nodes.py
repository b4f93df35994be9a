"""What a node must say of messages that only a node can judge: by topic, state and time.

Every case begins with a node that was started at 0 ms with the genesis alone, boot 1, and has not
been answered by anybody. Nothing depends on what it draws itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from demesh.wire import statements
from demesh.wire.frame import (
    SIG_STRUCTURE,
    SIGN1,
    SIGNAL_PROTECTED,
    SIGNAL_SEQUENCE,
    SIGNATURE_HEAD,
    STATEMENT_PROTECTED,
    STATEMENT_UNPROTECTED,
    TAG_HEAD,
    VERSION_TAG,
    bstr,
    head,
    seal_statement,
    signal_frame,
    split,
    statement_frame,
)
from demesh.wire.identity import signer
from demesh.wire.kinds import FIRST_SIGNAL, Kind
from demesh.wire.messages import (
    MESSAGE_OF_KIND,
    OP_BODIES,
    Ack,
    Blocks,
    Card,
    DeviceCertificate,
    Leap,
    Op,
    OpBody,
    OpType,
    Recall,
    Recalled,
    Transfer,
)
from demesh.wire.schema import encode
from demesh.wire.topics import Topics
from demesh_consensus import Block, Certificate, Proposal, Statement, StatementKind
from vectors.payloads import OFFER
from vectors.street import BEGINS_S, NEWCOMER, Street, id_of, key

ME = "bob"
"""The device that receives."""

_KIND_OF = {cls: kind for kind, cls in MESSAGE_OF_KIND.items()}
NOTARIZE, NULLIFY, FINALIZE = StatementKind


@dataclass(frozen=True, slots=True)
class Step:
    """A message that arrives."""

    topic: str
    frame: bytes
    retained: bool = False
    at_ms: int = 1_000


@dataclass(frozen=True, slots=True)
class Case:
    """Messages in order, and what a node shows after them: rejects by code, and its tip."""

    name: str
    steps: tuple[Step, ...]
    rejects: dict[str, int]
    height: int = 0


class Hand:
    """Writes frames and topics of anybody in the street."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self._seqs: dict[str, int] = {}
        self._ops = 0

    def says(self, name: str, area: str, frame: bytes, **given: object) -> Step:
        """Published by a device in an area of its own."""
        topic = Topics(self.street.binding.mesh_id, id_of(name)).mine(area)
        return replace(Step(topic, frame), **given)  # type: ignore[arg-type]

    def tells(self, name: str, frame: bytes, **given: object) -> Step:
        """Said to the node by a device."""
        topic = Topics(self.street.binding.mesh_id, id_of(name)).to(id_of(ME))
        return replace(Step(topic, frame), **given)  # type: ignore[arg-type]

    def seal(self, name: str, message: object) -> bytes:
        """The frame of a message by a device key; signals of boot 1, counted from 1."""
        return self.payload(name, _KIND_OF[type(message)], encode(message))

    def payload(self, name: str, kind: Kind, payload: bytes) -> bytes:
        """The frame of any payload under a kind."""
        sign, binding = signer(key(name)), self.street.binding
        if kind < FIRST_SIGNAL:
            return seal_statement(kind, binding, id_of(name), payload, sign)
        seq = self._seqs[name] = self._seqs.get(name, 0) + 1
        return signal_frame(kind, binding, id_of(name), 1, seq, payload, sign)

    def op(self, name: str, body: OpBody, until_s: int = BEGINS_S + 600) -> bytes:
        """An op's frame; each has a nonce of its own."""
        self._ops += 1
        type_ = next(one for one, cls in OP_BODIES.items() if cls is type(body))
        return self.seal(name, Op(type_, self._ops.to_bytes(8, "little"), until_s, encode(body)))

    def blocks(self, blocks: Iterable[Block], final: bytes) -> Step:
        """Alice gives blocks with what makes the last one final."""
        encoded = tuple(statements.encode_block(one) for one in blocks)
        return self.tells("alice", self.seal("alice", Blocks(encoded, final)))

    def unknown(self, name: str, kind: int) -> bytes:
        """A truly signed frame of a kind that nobody knows; a signal is of boot 9."""
        binding, payload = self.street.binding, b"\x80"
        if kind < FIRST_SIGNAL:
            protected = STATEMENT_PROTECTED + head(0, kind)
            kid = STATEMENT_UNPROTECTED + id_of(name)
        else:
            numbers = head(0, kind) + head(0, 9) + head(0, 500)
            protected, kid = SIGNAL_PROTECTED + id_of(name) + SIGNAL_SEQUENCE + numbers, b"\xa1"
        unprotected = kid + VERSION_TAG + head(0, self.street.version) + TAG_HEAD + binding.tag
        signed = SIG_STRUCTURE + bstr(protected) + bstr(binding.aad) + bstr(payload)
        signature = signer(key(name))(signed)
        return SIGN1 + bstr(protected) + unprotected + bstr(payload) + SIGNATURE_HEAD + signature

    def versioned(self, name: str, version: int) -> bytes:
        """A good op in a frame of another wire version."""
        frame = self.op(name, Transfer(id_of("carol"), 1))
        _, payload, signature = split(frame)
        binding = self.street.binding
        return statement_frame(Kind.OP, binding, id_of(name), payload, signature, version)

    def card(self, name: str, boot: int = 1, revision: int = 1) -> bytes:
        """A device's card."""
        return self.seal(name, Card(boot, revision, self.paper(name), (OFFER,)))

    def paper(self, name: str) -> DeviceCertificate:
        """A founding device's certificate."""
        papers = (one.certificate for one in self.street.genesis.body.devices)
        return next(one for one in papers if one.name == name)

    def vote(self, name: str, said: Statement) -> bytes:
        """A vote, by a device's vote key."""
        return self.payload(f"{name}'s votes", Kind.VOTE, statements.encode_statement(said))

    def proposal(self, proposal: Proposal) -> bytes:
        """A proposal, passed on by Alice."""
        return self.payload("alice's votes", Kind.PROPOSAL, statements.encode_proposal(proposal))

    def certificate(self, certificate: Certificate) -> bytes:
        """A certificate, passed on by Alice."""
        return self.payload("alice", Kind.CERTIFICATE, statements.encode_certificate(certificate))


def cases(street: Street) -> list[Case]:
    """Every case; at least one for each code that needs a node."""
    hand = Hand(street)
    return [
        *_welcome(hand),
        *_places(hand),
        *_shapes(hand),
        *_senders(hand),
        *_old(hand),
        *_ahead(hand),
        *_certificates(hand),
        *_invalid(hand),
        *_full(hand),
        *_newer(hand),
    ]


def _welcome(hand: Hand) -> Iterator[Case]:
    """What is as it should be: nothing is counted."""
    street = hand.street
    transfer = hand.op("alice", Transfer(id_of("carol"), 5))
    steps = (
        hand.says("alice", "card", hand.card("alice"), retained=True),
        hand.says("alice", "op", transfer),
        hand.says("carol", "op", transfer),
        hand.says("olivia", "gone", b"1"),
        hand.tells("carol", hand.seal("carol", Ack(bytes(16)))),
        hand.says("alice", "vote", hand.vote("alice", street.says(NULLIFY, 1))),
        hand.says("carol", "vote", hand.vote("alice", street.says(NULLIFY, 1))),
        hand.tells("alice", hand.seal("alice", Recall(bytes(8)))),
    )
    yield Case("what devices say of themselves, and pass on of others", steps, {})
    yield Case("its own publications that come back", (hand.says(ME, "vote", b"?"),), {})

    first, second, closing, fourth = street.first, street.second, street.closing, street.fourth
    proposals = [street.propose(one) for one in (first, closing, *street.fillers)]
    spoken = (hand.says("alice", "vote", hand.proposal(one), at_ms=13_000) for one in proposals)
    yield Case("proposals, also of views that come later", tuple(spoken), {})

    finals = [
        street.certify(street.founders, street.says(FINALIZE, one.view, one))
        for one in (first, second)
    ]
    asked = hand.says("alice", "vote", hand.certificate(finals[0]))
    one = hand.blocks((first,), statements.encode_final(finals[0], ()))
    two = hand.blocks((first, second), statements.encode_final(finals[1], ()))
    three = hand.blocks((second, closing), statements.encode_final(*street.closed))
    four = hand.blocks((fourth,), street.final(fourth))
    yield Case("a finalization, and the block that it is of", (asked, one), {}, 1)
    yield Case("two blocks at once", (two,), {}, 2)
    yield Case("a block that closes the epoch, with its trail", (one, three), {}, 3)
    yield Case("and one of the next epoch", (one, three, four), {}, 4)
    again = hand.blocks((first,), statements.encode_final(finals[0], ()))
    yield Case("a block again", (one, again), {"STALE": 1}, 1)
    yield Case("a block without the one below it", (three,), {"INVALID": 1})
    wrong = statements.encode_final(finals[0], ())
    yield Case(
        "a finalization of a block below", (hand.blocks((first, second), wrong),), {"INVALID": 1}
    )
    weak = street.certify(street.founders, finals[0].statement, (0, 1, 2))
    step = hand.blocks((first,), statements.encode_final(weak, ()))
    yield Case("a block that 6 of 13 made final", (step,), {"CERTIFICATE": 1})


def _places(hand: Hand) -> Iterator[Case]:
    transfer = hand.op("alice", Transfer(id_of("carol"), 5))
    ack = hand.seal("alice", Ack(bytes(16)))
    card = hand.card("carol")
    elsewhere = Topics(bytes(32), id_of("alice")).mine("op")
    to_carol = Topics(hand.street.binding.mesh_id, id_of("alice")).to(id_of("carol"))
    wrong = {
        "another mesh's topic": Step(elsewhere, transfer),
        "a topic that does not exist": Step(hand.says("alice", "op", b"").topic[:-1], transfer),
        "an area that does not exist": hand.says("alice", "news", transfer),
        "a message to another device": Step(to_carol, ack),
        "a publisher that is no member": hand.says("stranger", "op", transfer),
        "an op among votes": hand.says("alice", "vote", transfer),
        "an acknowledgement among cards": hand.says("alice", "card", ack),
        "a card that somebody else publishes": hand.says("alice", "card", card),
        "a signal that somebody else passes on": hand.tells("carol", ack),
    }
    for name, step in wrong.items():
        yield Case(name, (step,), {"TOPIC": 1})


def _shapes(hand: Hand) -> Iterator[Case]:
    """Canonical, and yet not the message of its kind."""
    street = hand.street
    wrong = {
        "an acknowledgement of two fields": (Kind.ACK, b"\x82" + bstr(bytes(16)) + b"\x00"),
        "an acknowledgement of 15 bytes": (Kind.ACK, b"\x81" + bstr(bytes(15))),
        "a refusal for no known reason": (Kind.REFUSE, b"\x82" + bstr(bytes(16)) + b"\x06"),
        "a map": (Kind.RECALL, b"\xa0"),
    }
    for name, (kind, payload) in wrong.items():
        yield Case(
            name, (hand.tells("alice", hand.payload("alice", kind, payload)),), {"PAYLOAD": 1}
        )
    fields = encode(Transfer(id_of("carol"), 5))
    until_s = BEGINS_S + 600
    claim = hand.seal("alice", Op(OpType.CLAIM, bytes(8), until_s, fields))
    torn = hand.seal("alice", Op(OpType.TRANSFER, bytes(8), until_s, fields[:-1]))
    bare = hand.vote("alice", Statement(NOTARIZE, 0, 1, b"", street.rules_version))
    named = hand.vote("alice", Statement(NULLIFY, 0, 1, bytes(32), street.rules_version))
    one = encode(street.says(NULLIFY, 1))
    short = b"\x83" + one + b"\x41\x03" + bstr(bytes(64))
    long = b"\x83" + one + b"\x42\x01\x00" + bstr(bytes(64))
    yield Case("an op with another op's fields", (hand.says("alice", "op", claim),), {"PAYLOAD": 1})
    yield Case("an op whose fields are cut", (hand.says("alice", "op", torn),), {"PAYLOAD": 1})
    yield Case("a vote for no block", (hand.says("alice", "vote", bare),), {"PAYLOAD": 1})
    yield Case("a NULLIFY of a block", (hand.says("alice", "vote", named),), {"PAYLOAD": 1})
    for name, payload in {
        "two voters and one signature": short,
        "a bitmap that ends in an empty byte": long,
    }.items():
        frame = hand.payload("alice", Kind.CERTIFICATE, payload)
        yield Case(name, (hand.says("alice", "tip", frame, retained=True),), {"PAYLOAD": 1})


def _senders(hand: Hand) -> Iterator[Case]:
    said = hand.street.says(NULLIFY, 1)
    encoded = statements.encode_statement(said)
    yield Case(
        "a vote by a device key",
        (hand.says("alice", "vote", hand.payload("alice", Kind.VOTE, encoded)),),
        {"SENDER": 1},
    )
    yield Case(
        "a vote by an observer",
        (hand.says("olivia", "vote", hand.vote("olivia", said)),),
        {"SENDER": 1},
    )
    pays = hand.op("alice's votes", Transfer(id_of("carol"), 5))
    yield Case("an op of a vote key", (hand.says("alice", "op", pays),), {"SENDER": 1})
    newcomer = hand.op(NEWCOMER, Transfer(id_of("carol"), 5))
    yield Case("an op of a newcomer", (hand.says("alice", "op", newcomer),), {"SENDER": 1})


def _old(hand: Hand) -> Iterator[Case]:
    late = hand.op("alice", Transfer(id_of("carol"), 5), BEGINS_S)
    early = hand.op("alice", Transfer(id_of("carol"), 5), BEGINS_S + 90_000)
    yield Case(
        "an op that has expired", (hand.says("alice", "op", late, at_ms=2_500),), {"STALE": 1}
    )
    yield Case("an op of tomorrow", (hand.says("alice", "op", early),), {"STALE": 1})
    cards = [hand.card("alice", 2, 5), hand.card("alice", 2, 5), hand.card("alice", 2, 4)]
    cards.append(hand.card("alice", 1, 9))
    steps = tuple(hand.says("alice", "card", card, retained=True) for card in cards)
    yield Case("cards of an earlier revision and of an earlier boot", steps, {"STALE": 2})
    answer = hand.seal("alice", Recalled(bytes(8), (), b"", 0, BEGINS_S))
    yield Case("an answer to another question", (hand.tells("alice", answer),), {"STALE": 1})
    leap = hand.seal("alice", Leap((), b""))
    yield Case("a leap that was not asked for", (hand.tells("alice", leap),), {"STALE": 1})


def _ahead(hand: Hand) -> Iterator[Case]:
    street = hand.street
    for view, rejects in ((65, {}), (66, {"AHEAD": 1})):
        frame = hand.vote("alice", street.says(NULLIFY, view))
        yield Case(f"a vote of view {view}", (hand.says("alice", "vote", frame),), rejects)
    later = hand.vote("alice", street.says(NULLIFY, 1, epoch=1))
    yield Case("a vote of the next epoch", (hand.says("alice", "vote", later),), {"AHEAD": 1})


def _certificates(hand: Hand) -> Iterator[Case]:
    street = hand.street
    certify, founders = street.certify, street.founders
    said = street.says(NULLIFY, 1)
    good = certify(founders, said)
    votes = good.signatures
    swapped = Certificate(said, ((0, votes[1][1]), (1, votes[0][1]), *votes[2:]))
    wrong = {
        "8 of 13": certify(founders, said, (0, 1, 2, 4, 7)),
        "two signatures swapped": swapped,
        "a voter that does not exist": Certificate(said, (*votes, (10, votes[0][1]))),
    }
    yield Case("9 of 13", (hand.says("alice", "vote", hand.certificate(good)),), {})
    for name, certificate_ in wrong.items():
        frame = hand.certificate(certificate_)
        for area in ("vote", "tip"):
            step = hand.says("alice", area, frame, retained=area == "tip")
            yield Case(f"{name}, as {area}", (step,), {"CERTIFICATE": 1})
    rules = replace(said, rules_version=street.rules_version + 1)
    frame = hand.certificate(certify(founders, rules))
    yield Case("other rules", (hand.says("alice", "vote", frame),), {"CERTIFICATE": 1})


def _invalid(hand: Hand) -> Iterator[Case]:
    street = hand.street
    other = hand.seal("alice", Card(1, 1, hand.paper("carol"), (OFFER,)))
    yield Case("a card for another device", (hand.says("alice", "card", other),), {"INVALID": 1})
    rules = replace(street.says(NULLIFY, 1), rules_version=street.rules_version + 1)
    frame = hand.vote("alice", rules)
    yield Case("a vote under other rules", (hand.says("alice", "vote", frame),), {"INVALID": 1})
    good = street.propose(street.first)
    forged = replace(good, vote=replace(good.vote, signature=bytes(64)))
    wrong_leader = (good.vote.voter + 1) % len(street.founders.voters)
    usurped = Proposal(
        street.first, (), street.vote(street.founders, wrong_leader, good.vote.statement)
    )
    for name, proposal in {
        "a proposal without its leader's signature": forged,
        "a proposal by a voter that does not lead": usurped,
    }.items():
        yield Case(name, (hand.says("alice", "vote", hand.proposal(proposal)),), {"INVALID": 1})


def _full(hand: Hand) -> Iterator[Case]:
    asked = tuple(hand.tells("alice", hand.seal("alice", Recall(bytes(8)))) for _ in range(10))
    yield Case("ten questions at once", asked, {"FULL": 2})
    again = hand.tells("alice", hand.seal("alice", Recall(bytes(8))), at_ms=1_050)
    yield Case("and one after 50 ms", (*asked, again), {"FULL": 2})
    ops = tuple(
        hand.says("alice", "op", hand.op("alice", Transfer(id_of("carol"), 5))) for _ in range(66)
    )
    yield Case("66 ops of one signer", ops, {"FULL": 2})


def _newer(hand: Hand) -> Iterator[Case]:
    """What a later version may bring is counted, skipped, and harms nothing that follows."""
    ack = hand.seal("alice", Ack(bytes(16)))
    transfer = hand.op("alice", Transfer(id_of("carol"), 5))
    unknown = {
        "a signal of kind 28": ("KIND", hand.tells("alice", hand.unknown("alice", 28))),
        "a signal of kind 2^64 - 1": (
            "KIND",
            hand.tells("alice", hand.unknown("alice", 2**64 - 1)),
        ),
        "a statement of kind 7": ("KIND", hand.says("alice", "op", hand.unknown("alice", 7))),
        "a statement of wire version 3": (
            "VERSION",
            hand.says("alice", "op", hand.versioned("alice", 3)),
        ),
        "a direct one of wire version 3": (
            "VERSION",
            hand.tells("alice", hand.versioned("alice", 3)),
        ),
    }
    goes_on = (hand.tells("alice", ack), hand.says("alice", "op", transfer))
    for name, (code, step) in unknown.items():
        yield Case(f"{name}, and all goes on", (step, *goes_on), {code: 1})
    everything = tuple(step for _, step in unknown.values())
    yield Case("all of these", (*everything, *goes_on), {"KIND": 3, "VERSION": 2})


# -- the document ---------------------------------------------------------------------------------


def document(street: Street) -> dict[str, object]:
    """What node.json says."""
    return {
        "genesis": encode(street.genesis).hex(),
        "device": {
            "name": ME,
            "class": "battery",
            "device_key": bytes(key(ME)).hex(),
            "vote_key": bytes(key(f"{ME}'s votes")).hex(),
        },
        "delay_floor_ms": 250,
        "cases": [
            {
                "name": case.name,
                "steps": [
                    {
                        "at_ms": step.at_ms,
                        "topic": step.topic,
                        "retained": step.retained,
                        "frame": step.frame.hex(),
                    }
                    for step in case.steps
                ],
                "rejects": case.rejects,
                "height": case.height,
            }
            for case in cases(street)
        ],
    }
