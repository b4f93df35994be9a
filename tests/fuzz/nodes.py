"""The target of a whole node: whatever reaches its topics, it goes on."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

from demesh.ports import MILLISECOND, Received
from demesh.wire import identity, statements
from demesh.wire.frame import seal_statement, signal_frame, split
from demesh.wire.kinds import FIRST_SIGNAL, Kind
from demesh.wire.messages import MESSAGE_OF_KIND
from demesh.wire.opbodies import OP_BODIES, Op, OpType, Transfer
from demesh.wire.schema import encode
from demesh.wire.topics import KINDS_OF_AREA
from fuzz.mutate import of_tree
from fuzz.tape import Tape, programs
from fuzz.target import Target, expect
from fuzz.wire import FRAMES, of_bytes_at
from node.hostile import Board, Nonsense, Street

MESSAGES_MAX = 60
SHAPES = {
    Kind.VOTE: statements._Statement,
    Kind.CERTIFICATE: statements._Certificate,
    Kind.PROPOSAL: statements._Proposal,
}
KINDS = tuple(Kind)
AREAS = (*KINDS_OF_AREA, "gone")
OP_VALID_S = 300
PATIENCE_S = 60  # some views whose leader says nothing
WAITS = (0, 1, 20, 250, 1_000, 5_000)  # ms
GONE = (b"", b"1", b"0", b"9" * 20, b"9" * 21, b"-1", b"\xb2", b"1.5")


def node() -> Target:
    """A member signs what it likes, a broker repeats and spoils it; nothing may be raised."""

    def run(data: bytes) -> None:
        tape = Tape(data)
        street = Street(seed=tape.below(2))
        street.run(1)
        talk = _Talk(tape, street)
        for _ in range(MESSAGES_MAX):
            if tape.over:
                break
            talk.step()
        talk.ends()

    return Target(run, (bytes(60), bytes(range(0, 240, 2)), b"\x03" * 90), programs)


class _Talk:
    """What one member says to another, as a tape has it."""

    def __init__(self, tape: Tape, street: Street) -> None:
        self.tape, self.street = tape, street
        self.victim, self.liar = street.boards[:2]
        self.pen = self.liar.signer(boot=1_000)
        self._seq = 0
        self._said: list[bytes] = [b""]
        self._heard: list[bytes] = [b""]

    def step(self) -> None:
        """One message, or a while without."""
        tape, street = self.tape, self.street
        kind = tape.choice(KINDS)
        match tape.below(16):
            case 0:
                frame = tape.choice(self._said[-8:])
            case 1:
                frame = tape.choice(FRAMES)
            case 2:
                frame = tape.take(tape.below(64))
            case 3:
                frame = tape.choice(GONE)
            case 4:
                street.run(1)
                return
            case _:
                frame = self._frame(kind)
        self._said.append(frame)
        topic, retained = self._topic(kind), tape.byte() < 50
        if f"/to/{identity.text(self.victim.id)}/" in topic:
            frame = self._sealed(frame)
        given = Received(topic, frame, retained)
        street.do(self.victim, self.victim.node.handle(given, street.now))
        street.settle(self.victim)
        street.now += tape.choice(WAITS) * MILLISECOND

    def _sealed(self, frame: bytes) -> bytes:
        """Closed as it should be, or by another, or spoilt, or not at all."""
        which = self.tape.byte()
        if which >= 240:
            return frame
        sender = self.liar if which < 200 else self.tape.choice(self.street.boards)
        receiver = self.victim if which < 220 else self.liar
        key = bytes(receiver.member.identity.device_key.verify_key)
        sealed = sender.sealer.seal(key, frame)
        return of_bytes_at(self.tape, sealed) if which % 8 == 7 else sealed

    def ends(self) -> None:
        """The honest still decide: an op of one of them is in the ledger of all, which is one."""
        street = self.street
        honest = [board for board in street.boards if board is not self.liar]
        payer, payee = street.boards[2:4]
        time_s = payer.node.consensus.clock.read_s(street.now)
        op = payer.pen.op(Transfer(payee.id, 1), time_s + OP_VALID_S)
        for board in honest:
            topic = payer.topics.mine("op")
            street.give(board, topic, op)  # its own too: what its owner's tools would say
        street.run(PATIENCE_S)
        ledgers = [board.node.application.ledger for board in honest]
        expect(len({ledger.root for ledger in ledgers}) == 1, "their ledgers differ")
        kid, payload, _ = split(op)
        answered = ledgers[0].result(blake2b(kid + payload, digest_size=32).digest())
        expect(answered is not None, "an honest op was never decided")

    def _topic(self, kind: Kind) -> str:
        tape, street = self.tape, self.street
        right = street.topic(self.liar, self.victim, kind)
        if (which := tape.byte()) < 200:
            return right
        sender: Board = tape.choice(street.boards)
        if which < 240:
            area = tape.choice(AREAS)
            return sender.topics.to(self.victim.id) if area == "to" else sender.topics.mine(area)
        return right[: tape.byte()] + tape.take(4).decode("utf-8", "replace")

    def _frame(self, kind: Kind) -> bytes:
        """Truly signed by the member, whatever is in it."""
        dice = Random(self.tape.take(4))
        known = [*self.street.bare.ids, self.street.bare.mesh_id, *self._said[-8:]]
        nonsense = Nonsense(dice, [one for one in known if one])
        if kind is Kind.OP:
            type_ = dice.choice(list(OpType))
            time_s = self.victim.node.consensus.clock.read_s(self.street.now)
            fields = encode(nonsense.message(OP_BODIES[type_]))
            if dice.random() < 0.3:
                fields = of_tree(dice, fields, ())
            message = Op(type_, dice.randbytes(8), time_s + dice.randint(0, 9), fields)
        else:
            message = nonsense.message(SHAPES.get(kind) or MESSAGE_OF_KIND[kind])
        payload = encode(message)
        if dice.random() < 0.3:
            payload = of_tree(dice, payload, ())
        binding = self.pen.binding
        keys = self.liar.member.identity
        try:
            if kind >= FIRST_SIGNAL:
                self._seq += 1
                sign = identity.signer(keys.device_key)
                seq = self._seq if dice.random() < 0.9 else dice.choice((0, 2**64 - 1))
                return signal_frame(kind, binding, self.pen.id, 1_000, seq, payload, sign)
            by_vote_key = kind in (Kind.VOTE, Kind.PROPOSAL)
            key = keys.vote_key if by_vote_key else keys.device_key
            id = self.pen.vote_id if by_vote_key else self.pen.id
            return seal_statement(kind, binding, id, payload, identity.signer(key))
        except AssertionError:
            return payload  # larger than its kind allows
