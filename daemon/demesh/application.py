"""The replicated application: pending ops, and the ledger after every block that is not yet final.

Consensus asks; the ledger answers. States are kept per block digest, which costs little because
ledgers share structure, and are dropped when consensus prunes. What happened in a block is told
once, when it is final (`settle`).

R-LED-30  Ops and vouchers of a block are signed by accounts that the parent's ledger has and knows
          a key of: members with their device keys, and owners. An op of anybody else makes the
          block invalid, and a voucher is none. So a device's key counts from the block above the
          one that took it in, final or not, and it does not matter what else a node executed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from demesh.ledger.channels import OpenVoucher
from demesh.ledger.events import ChannelEvent, Enrolled, Event, Settled
from demesh.ledger.ledger import Applied, Ledger
from demesh.ledger.ops import SignedOp
from demesh.ledger.rules import RULES
from demesh.ledger.state import Channel, Electorate
from demesh.pool import OpPool, Pending
from demesh.wire.intents import ChannelFact
from demesh.wire.kinds import Kind, Reject
from demesh.wire.opbodies import OP_BODIES, Op, OpBody
from demesh.wire.readings import Cap, Voucher
from demesh.wire.schema import Malformed, decode
from demesh.wire.statements import BLOCK_OPS_BYTES_MAX, OPS_PER_BLOCK_MAX
from demesh.wire.validate import Validator
from demesh_consensus import Block, Franchise

# While a channel is open a block is made this often although nothing happens: without one the mesh
# clock stands still after an hour, and a channel that ends tomorrow would never settle.
TICK_S = 3_500

# Ops opened before: each is met once on its topic and once or twice in proposals.
_OPENED_MAX = 4096


class Application:
    """Implements `demesh_consensus.Application` over the ledger; `seat` knows whose keys vote."""

    def __init__(
        self,
        ledger: Ledger,
        tip: bytes,
        validator: Validator,
        seat: Callable[[Electorate], Franchise],
    ) -> None:
        self.ledger = ledger  # after the finalized tip
        self._validator, self._seat = validator, seat
        self.rules = RULES[ledger.electorate.rules_version]
        self._ledgers: dict[bytes, Ledger] = {tip: ledger}
        self._applied: dict[bytes, Applied] = {}
        self.pool = OpPool()
        self._opened: OrderedDict[bytes, SignedOp] = OrderedDict()
        self._asked: tuple[object, ...] = ()  # the last question to `has_work`, and its answer
        self._answer = False
        self._time_s = 0

    # -- pending ops ------------------------------------------------------------------------------

    def submit(self, frame: bytes, time_s: int) -> Reject | None:
        """Take an op for a later block; a repetition is fine."""
        op = self.open_op(frame)
        if isinstance(op, Reject):
            return op
        if op in self.pool:
            return None
        if not self.ledger.signs(op.signer):
            return Reject.SENDER
        if not self.ledger.includable(op, time_s):
            return Reject.STALE
        if not self._answer:
            self._asked = ()  # there may be work now; what was work before still is
        return self.pool.add(op, frame)

    def heard(self, frame: bytes) -> None:
        """Somebody else published this op."""
        op = self.open_op(frame)
        if isinstance(op, SignedOp):
            self.pool.heard(op)

    def open_op(self, frame: bytes) -> SignedOp | Reject:
        """The op in a frame, if its signature and its shape are good."""
        known = self._opened.get(frame)
        if known is not None:
            return known
        view = self._validator.check(frame)
        if isinstance(view, Reject):
            return view
        if view.kind is not Kind.OP:
            return Reject.KIND
        payload = bytes(view.payload)
        try:
            op = decode(Op, payload)
            if op.type not in self.rules.ops:
                return Reject.PAYLOAD
            body: OpBody = decode(OP_BODIES[op.type], op.fields, tails=self.rules.grown)
        except Malformed:
            return Reject.PAYLOAD
        id = hashlib.blake2b(view.sender + payload, digest_size=32).digest()
        signed = SignedOp(id, view.sender, op.valid_until_s, body)
        self._opened[frame] = signed
        if len(self._opened) > _OPENED_MAX:
            self._opened.popitem(last=False)
        return signed

    def _vouchers_on(self, parent: Ledger) -> OpenVoucher:
        """Opens vouchers and caps as every node does, whatever else it executed (R-LED-30)."""

        def open_voucher(frame: bytes) -> tuple[bytes, Voucher | Cap] | None:
            view = self._validator.check(frame)
            if isinstance(view, Reject) or view.kind not in (Kind.VOUCHER, Kind.CAP):
                return None
            if not parent.signs(view.sender):
                return None
            cls: type[Voucher | Cap] = Voucher if view.kind is Kind.VOUCHER else Cap
            try:
                return view.sender, decode(cls, view.payload, tails=self.rules.grown)
            except Malformed:
                return None

        return open_voucher

    # -- what consensus asks ----------------------------------------------------------------------

    def franchise(self, digest: bytes) -> Franchise:
        """Who votes on what follows this block (R-CON-14)."""
        return self._seat(self._ledgers[digest].electorate)

    def has_work(self, parent: bytes, time_s: int) -> bool:
        """An includable op, or a channel whose time has come (R-CON-7)."""
        if (parent, time_s) != self._asked:
            if time_s != self._time_s:
                self._time_s = time_s
                self.pool.keep(lambda op: op.valid_until_s >= time_s)
            ledger, due_s = self._ledgers[parent], self.wake_s(parent)
            self._answer = (due_s is not None and due_s <= time_s) or any(
                ledger.includable(pending.op, time_s) for pending in self.pool
            )
            self._asked = (parent, time_s)
        return self._answer

    def wake_s(self, parent: bytes) -> int | None:
        """When the next channel settles by itself, or the mesh clock must be moved for it."""
        ledger = self._ledgers[parent]
        settles_s = ledger.settlement_s()
        return None if settles_s is None else min(settles_s, ledger.time_s + TICK_S)

    def build(self, parent: bytes, time_s: int) -> tuple[tuple[bytes, ...], bytes, bool]:
        """Pending ops in order of arrival, as many as fit; root after them; do voters change?"""
        ledger = self._ledgers[parent]
        chosen: list[Pending] = []
        room = BLOCK_OPS_BYTES_MAX
        for pending in self.pool:
            if len(chosen) == OPS_PER_BLOCK_MAX:
                break
            if ledger.includable(pending.op, time_s) and len(pending.frame) <= room:
                chosen.append(pending)
                room -= len(pending.frame)
        applied = ledger.apply([p.op for p in chosen], time_s, self._vouchers_on(ledger))
        return tuple(p.frame for p in chosen), applied.ledger.root, applied.closing

    def execute(self, block: Block, digest: bytes) -> bool:
        """Apply the block to its parent's ledger; False if an op is bad or the outcome differs."""
        parent = self._ledgers.get(block.parent)
        if parent is None or sum(map(len, block.ops)) > BLOCK_OPS_BYTES_MAX:
            return False
        ops = []
        for frame in block.ops:
            op = self.open_op(frame)
            if isinstance(op, Reject) or not parent.includable(op, block.time_s):
                return False
            if not parent.signs(op.signer):
                return False
            ops.append(op)
        if len({op.id for op in ops}) != len(ops):
            return False
        applied = parent.apply(ops, block.time_s, self._vouchers_on(parent))
        if (applied.ledger.root, applied.closing) != (block.state_root, block.closing):
            return False
        self._ledgers[digest], self._applied[digest] = applied.ledger, applied
        for event in applied.events:
            if isinstance(event, Enrolled) and (member := applied.ledger.member(event.device)):
                self._validator.enrol(event.device, member.certificate.device_key)
        return True

    def prune(self, keep: frozenset[bytes]) -> None:
        """Forget the ledgers of all other blocks; what blocks did is kept until `settle`."""
        self._ledgers = {d: ledger for d, ledger in self._ledgers.items() if d in keep}
        self._asked = ()

    # -- what is final ----------------------------------------------------------------------------

    def settle(self, digest: bytes) -> Applied:
        """A block is final: what it did, once. Its ops wait no longer."""
        applied = self._applied.pop(digest)
        self.ledger, self._asked = applied.ledger, ()
        time_s = self.ledger.time_s
        self.pool.keep(lambda op: self.ledger.includable(op, time_s))
        return applied

    def drop_losers(self) -> None:
        """Once all that is final was settled: forget what blocks did that lost their view."""
        self._applied = {d: a for d, a in self._applied.items() if d in self._ledgers}

    # -- channels, for metering -------------------------------------------------------------------

    def open_channels(self, device: bytes) -> list[ChannelFact]:
        """Every open channel that a device pays into or is paid from."""
        return [
            _fact(id, channel)
            for id, channel in self.ledger.channels()
            if device in (channel.payer, channel.payee)
        ]

    def channel_facts(self, device: bytes, events: Sequence[Event]) -> list[ChannelFact]:
        """What became of a device's channels in a final block."""
        facts = []
        for event in events:
            if not isinstance(event, ChannelEvent) or device not in (event.payer, event.payee):
                continue
            channel = self.ledger.channel(event.channel)
            facts.append(_fact(event.channel, channel) if channel else _gone(event))
        return facts


def _fact(id: bytes, channel: Channel) -> ChannelFact:
    return ChannelFact(
        channel=id,
        agreement=channel.agreement,
        payer=channel.payer,
        payee=channel.payee,
        escrow=channel.escrow,
        claimed=channel.claimed,
        expiry_s=channel.expiry_s,
        closing=channel.close_at_s is not None,
        open=True,
        window_s=channel.window_s,
    )


def _gone(event: ChannelEvent) -> ChannelFact:
    """A channel that the block settled, whatever else it did with it."""
    return ChannelFact(
        channel=event.channel,
        agreement=event.agreement,
        payer=event.payer,
        payee=event.payee,
        escrow=0,
        claimed=event.earlier + event.paid if isinstance(event, Settled) else 0,
        expiry_s=0,
        closing=True,
        open=False,
    )
