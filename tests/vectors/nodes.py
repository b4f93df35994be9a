"""What a node must say of messages that only a node can judge: by topic, state and time.

Every case begins with a node that was started at 0 ms with the genesis alone, boot 1, and has not
been answered by anybody. Nothing depends on what it draws itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from demesh.wire import statements
from demesh.wire.frame import bstr
from demesh.wire.kinds import SEALED_SINCE, Kind
from demesh.wire.messages import Leap, Recall, Recalled
from demesh.wire.offers import Ack, Card
from demesh.wire.opbodies import Op, OpType, Transfer
from demesh.wire.readings import Cap
from demesh.wire.schema import encode
from demesh.wire.topics import Topics
from demesh_consensus import Certificate, Proposal, Statement
from vectors.hand import FINALIZE, ME, NOTARIZE, NULLIFY, Case, Hand, Step
from vectors.payloads import OFFER
from vectors.street import BEGINS_S, NEWCOMER, Street, id_of, key


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
        *_floods(hand),
        *(_seals(hand) if street.binding.version >= SEALED_SINCE else ()),
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
    other = hand.seal("alice", Op(OpType.OPEN, bytes(8), until_s, fields))
    torn = hand.seal("alice", Op(OpType.TRANSFER, bytes(8), until_s, fields[:-1]))
    cap = hand.seal("alice", Cap(bytes(16), 0, 5))
    bare = hand.vote("alice", Statement(NOTARIZE, 0, 1, b"", street.rules_version))
    named = hand.vote("alice", Statement(NULLIFY, 0, 1, bytes(32), street.rules_version))
    one = encode(street.says(NULLIFY, 1))
    short = b"\x83" + one + b"\x41\x03" + bstr(bytes(64))
    long = b"\x83" + one + b"\x42\x01\x00" + bstr(bytes(64))
    yield Case("an op with another op's fields", (hand.says("alice", "op", other),), {"PAYLOAD": 1})
    yield Case("an op whose fields are cut", (hand.says("alice", "op", torn),), {"PAYLOAD": 1})
    if street.rules_version >= 3:
        yield Case("a cap, which has no topic", (hand.tells("alice", cap),), {"TOPIC": 1})
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


def _floods(hand: Hand) -> Iterator[Case]:
    """What a place may cost is used up, and everybody else is heard (R-WIRE-13)."""
    forged = flipped(hand.op("alice", Transfer(id_of("carol"), 1)))
    said, elsewhere = (hand.op("alice", Transfer(id_of("carol"), amount)) for amount in (2, 3))
    flood = hand.says("alice", "op", forged, times=150)
    spent = {"SIGNATURE": 90, "BUDGET": 60}
    yield Case("forgeries on one topic", (flood,), spent)
    late = hand.says("alice", "op", said)
    yield Case("no op passes there at once", (flood, late), {**spent, "BUDGET": 61})
    after = hand.says("alice", "op", said, at_ms=1_100)
    yield Case("and one does after 100 ms", (flood, after), spent)
    around = (hand.says("carol", "op", said), hand.says("dave", "op", elsewhere))
    yield Case("or meanwhile by somebody else's topic", (flood, *around), spent)
    again = hand.says("alice", "op", said, times=120)
    yield Case("one op said again and again", (again,), {"BUDGET": 29})

    street = hand.street
    tip = hand.certificate(street.certify(street.founders, street.says(NULLIFY, 9)))
    lies = hand.says("carol", "vote", flipped(tip), times=150)
    awaited = hand.says("carol", "vote", hand.vote("carol", street.says(NULLIFY, 1)))
    early = hand.says("carol", "vote", hand.vote("carol", street.says(NULLIFY, 30)))
    yield Case("forgeries among votes, and a vote that the view waits for", (lies, awaited), spent)
    yield Case("and one that it does not", (lies, early), {**spent, "BUDGET": 61})


def flipped(frame: bytes) -> bytes:
    """The frame with one bit of its signature changed."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


def _seals(hand: Hand) -> Iterator[Case]:
    """A direct message is for this node by the publisher of its topic, or it is nothing (R-SEA)."""
    ack = hand.seal("alice", Ack(bytes(16)))
    closed = hand.closed("alice", ack)
    wrong = {
        "a frame that is not sealed": hand.bare("alice", ack),
        "nothing that could be sealed": hand.bare("alice", b"\x80"),
        "sealed by somebody else": hand.bare("carol", closed),
        "sealed for somebody else": hand.bare("alice", hand.closed("alice", ack, "carol")),
        "one bit of a box": hand.bare("alice", flipped(closed)),
        "a box that is cut": hand.bare("alice", closed[:-1]),
    }
    for name, step in wrong.items():
        goes_on = hand.tells("alice", hand.seal("alice", Ack(bytes(16))))
        yield Case(name, (step, goes_on), {"SEAL": 1})
    empty = hand.bare("alice", b"")
    yield Case("an empty direct message", (empty,), {"SIZE": 1})
    twice = hand.bare("alice", closed), hand.bare("alice", closed)
    yield Case("sealed once and sent twice", twice, {"REPLAY": 1})
    anew = hand.bare("alice", closed), hand.tells("alice", ack)
    yield Case("one frame sealed twice", anew, {"REPLAY": 1})
    garbage = hand.tells("alice", b"garbage")
    yield Case("garbage, sealed", (garbage,), {"SHAPE": 1})


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
        "verify_ns": 100_000,
        "cases": [
            {
                "name": case.name,
                "steps": [
                    {
                        "at_ms": step.at_ms,
                        "topic": step.topic,
                        "retained": step.retained,
                        "times": step.times,
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
