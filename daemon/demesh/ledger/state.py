"""The records of the ledger, their keys and their bytes.

R-LED-2  Amounts are integer micro-credits. An account's balance is never below its floor, and a
         floor is never above 0. All floors together are at least -(2^53 - 1), so no balance,
         escrow or sum of them can leave the range of a record.
R-LED-3  The sum of all balances and all escrows is 0, after every op and every block.
R-LED-4  A record is the deterministic CBOR array of its fields, under a key of one table letter and
         a fixed number of bytes, so that no key is another's prefix:
             a account[16]                        Account
             c channel[16]                        Channel
             d settles_s[8] channel[16]           empty: order in which channels fall due
             f valid_until_s[8] op[32]            empty: order in which ops are forgotten
             g giver[16] taker[16]                Backing
             k owner[16]                          Owner
             m device[16]                         Membership
             o op[32]                             Receipt
             p                                    Parameters
             q signer[16]                         Quota
             v                                    Electorate
         Times in keys are big-endian, so that the order of keys is the order in time.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast

from demesh.wire.certificates import DeviceCertificate
from demesh.wire.identity import VOTERS_MAX
from demesh.wire.offers import Split
from demesh.wire.schema import (
    TAIL,
    U8,
    U32,
    U53,
    Bounds,
    Digest,
    Id,
    Name,
    PublicKey,
    Signed53,
    decode,
    encode,
)

AMOUNT_MAX = 2**53 - 1
TIME_S_MAX = 2**53 - 1
PPM = 1_000_000


class AccountKind(IntEnum):
    """Whose account it is; the ledger treats all alike."""

    OWNER = 1
    DEVICE = 2
    ISSUER = 3
    COMMONS = 4
    MAKER = 5


class Result(IntEnum):
    """What became of an op. VALIDITY, QUOTA and CROWDED put it off, any other answer is final."""

    OK = 0
    EXPIRED = 1  # valid_until is behind mesh time
    VALIDITY = 2  # valid_until is further ahead than VALIDITY_S_MAX
    QUOTA = 3  # too many remembered ops (R-LED-49); the same op may be included later
    SIGNER = 4  # the signer has no account
    PEER = 5  # the other account does not exist, or is the signer's own
    AMOUNT = 6  # below 1
    FUNDS = 7  # the account would fall below its floor
    EXPIRY = 8  # not after mesh time, or too far ahead
    WINDOW = 9  # outside WINDOW_S_MIN .. WINDOW_S_MAX
    SPLITS = 10  # unknown or repeated account, or more than the whole
    CHANNELS = 11  # the payer has CHANNELS_MAX channels open
    TAKEN = 12  # a channel of this id is open
    CHANNEL = 13  # no such channel: settled, or never opened
    VOUCHER = 14  # not a valid voucher of this channel's payer for this channel
    LANE = 15  # not a lane a channel has
    NOTHING = 16  # the claim raises nothing
    PARTY = 17  # only payer and payee close a channel
    CLOSING = 18  # the window runs already
    CROWDED = 19  # the block has answered its share of such ops; it may be included later
    SERIAL = 20  # not one more than the member's serial
    OWNER = 21  # the certificate's owner is none of the mesh, or not the member's
    UNCHANGED = 22  # the device has just this certificate and weight
    KEY = 23  # another member or an owner has one of its keys
    NAME = 24  # another member or an owner is called so
    MEMBERS = 25  # the mesh has MEMBERS_MAX members
    VOTERS = 26  # no voter would be left, or more than VOTERS_MAX be there
    WEIGHT = 27  # the voters' weight would pass WEIGHT_MAX
    APPROVER = 28  # an approval by no owner, or a second one of an owner
    MAJORITY = 29  # too few owners approve
    CERTIFICATE = 30  # the certificate does not hold
    APPROVAL = 31  # the signature of an approval does not hold
    CAP = 32  # not a valid cap of this channel's payee for this channel
    CREDIT = 33  # more credit than the account has to give
    LINK = 34  # not a link of this voucher's chain
    BACKING = 35  # more than the giver has of its own, or it is guaranteed for already
    GUARANTEE = 36  # no such guarantee, or less
    GUARANTEES = 37  # the giver guarantees for GUARANTEES_MAX others
    DEBT = 38  # the taker owes less

    @property
    def final(self) -> bool:
        """Whether this op can never get another answer."""
        return self not in (Result.VALIDITY, Result.QUOTA, Result.CROWDED)


@dataclass(frozen=True, slots=True)
class Account:
    """An account. `channels` counts the open channels it pays for.

    Of its balance, `locked` stands for its guarantees; of its credit, `backed` is by those of
    others.
    """

    owner: Id
    kind: U8
    balance: Signed53
    floor: Signed53
    channels: U32 = 0
    locked: Annotated[U53, TAIL] = 0
    backed: Annotated[U53, TAIL] = 0

    @property
    def room(self) -> int:
        """How much may leave it, in micro-credits (R-LED-2, 36)."""
        return self.balance - (self.locked or self.floor)


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of a channel: the greatest claim and the least cap so far, and what was settled."""

    lane: U8
    cum: U53
    settled: Annotated[U53, TAIL] = 0
    cap: Annotated[U53 | None, TAIL] = None

    @property
    def value(self) -> int:
        """What the lane is good for, in micro-credits (R-LED-13)."""
        return self.cum if self.cap is None else min(self.cum, self.cap)


@dataclass(frozen=True, slots=True)
class Channel:
    """An escrow for a payee. `lanes` ascend; `close_at_s` is set once the payer has closed.

    Of `escrow`, `paid` is paid out already. `fee_ppm` is what the commons gets, None: what the
    parameters say (R-LED-50).
    """

    payer: Id
    payee: Id
    escrow: U53
    lanes: Annotated[tuple[Lane, ...], Bounds(0, 64)]
    expiry_s: U53
    window_s: U32
    close_at_s: U53 | None
    agreement: Id
    splits: Annotated[tuple[Split, ...], Bounds(0, 4)]
    paid: Annotated[U53, TAIL] = 0
    fee_ppm: Annotated[U32 | None, TAIL] = None

    @property
    def claimed(self) -> int:
        """What it pays in all if nothing more is said, in micro-credits (R-LED-13)."""
        return min(sum(lane.value for lane in self.lanes), self.escrow)

    @property
    def settles_s(self) -> int:
        """Mesh time at which it settles by itself (R-LED-15)."""
        return self.expiry_s + self.window_s if self.close_at_s is None else self.close_at_s

    def lane(self, number: int) -> Lane:
        """What is recorded of a lane."""
        return next((held for held in self.lanes if held.lane == number), Lane(number, 0))


@dataclass(frozen=True, slots=True)
class Receipt:
    """The recorded answer to an op. `signer` is for whom it counts (R-LED-49)."""

    result: Result
    signer: Id
    valid_until_s: U53


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the whole mesh agreed on, and mesh time as of the last block.

    `credit` is how far all floors together are below 0, from rules 3 on.
    """

    time_s: U53
    commons: Id
    commons_ppm: U32
    credit: Annotated[U53, TAIL] = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """How many ops are remembered that count for somebody (R-LED-49)."""

    remembered: U32


@dataclass(frozen=True, slots=True)
class Owner:
    """A founding owner."""

    key: PublicKey
    name: Name


@dataclass(frozen=True, slots=True)
class Membership:
    """What a device is in the mesh; weight 0 observes. `serial` counts its MEMBER ops.

    `renewed_s` is the mesh time at which its own owner alone renewed its vote key last, or 0.
    """

    certificate: DeviceCertificate
    weight: U32
    serial: U32
    renewed_s: U53 = 0


@dataclass(frozen=True, slots=True)
class Elector:
    """A voter of an epoch: a device, the key it votes with, and what its vote weighs."""

    device: Id
    vote_key: PublicKey
    weight: U32


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who votes in the epoch of the next block, by voter number; and what their votes bind."""

    mesh_id: Digest
    generation: U32
    epoch: U32
    rules_version: U32
    voters: Annotated[tuple[Elector, ...], Bounds(1, VOTERS_MAX)]


@dataclass(frozen=True, slots=True)
class Backing:
    """What one account answers for another with."""

    amount: U53


@dataclass(frozen=True, slots=True)
class Mark:
    """An entry of an order in time: all it has to say is in its key."""


Record = (
    Account
    | Channel
    | Receipt
    | Parameters
    | Quota
    | Owner
    | Membership
    | Electorate
    | Backing
    | Mark
)

ACCOUNTS, CHANNELS, RECEIPTS, QUOTAS = b"a", b"c", b"o", b"q"
DUE, FORGET = b"d", b"f"
OWNERS, MEMBERS = b"k", b"m"
GUARANTEES = b"g"
PARAMETERS, ELECTORATE = b"p", b"v"

KEY_BYTES = {
    ACCOUNTS: 17,
    CHANNELS: 17,
    DUE: 25,
    FORGET: 41,
    GUARANTEES: 33,
    OWNERS: 17,
    MEMBERS: 17,
    RECEIPTS: 33,
    PARAMETERS: 1,
    QUOTAS: 17,
    ELECTORATE: 1,
}
"""The length of every key of a table, its letter included (R-LED-4)."""

MARK = Mark()

R = TypeVar("R", bound=Record)


def due_key(channel: bytes, settles_s: int) -> bytes:
    """Where a channel stands in the order of settlement."""
    return DUE + settles_s.to_bytes(8, "big") + channel


def forget_key(op: bytes, valid_until_s: int) -> bytes:
    """Where an op stands in the order of forgetting."""
    return FORGET + valid_until_s.to_bytes(8, "big") + op


def time_of(key: bytes) -> int:
    """The mesh time in a key of `DUE` or `FORGET`, in seconds."""
    return int.from_bytes(key[1:9], "big")


def subject_of(key: bytes) -> bytes:
    """The channel or op in a key of `DUE` or `FORGET`."""
    return key[9:]


def seal(record: Record) -> bytes:
    """The bytes of a record."""
    return b"" if isinstance(record, Mark) else encode(record)


# A block reads the same few accounts again and again: 4,096 records are all accounts that a genesis
# may have. Records are immutable, so one object may serve every ledger of the process.
@lru_cache(maxsize=4096)
def _decoded(cls: Any, value: bytes) -> Any:
    return decode(cls, value)


def open_record(cls: type[R], value: bytes | None) -> R | None:
    """The record in `value`, or None for None; raises Malformed if it is not of that class."""
    return None if value is None else cast(R, _decoded(cast(Hashable, cls), value))
