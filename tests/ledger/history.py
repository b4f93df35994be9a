"""A long history of a street drawn from a seed: the same ops for the same seed, on any machine.

Run as a program it prints the state root and a digest of everything that was answered and told.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from random import Random

from demesh.ledger.ops import SignedOp
from demesh.wire.offers import Split
from demesh.wire.opbodies import SetMember
from ledger.book import (
    ANN,
    BEN,
    CEM,
    DAY_S,
    DORA,
    FOUNDING,
    HOUR_S,
    OWNERS,
    START_S,
    Book,
    cap_frame,
    capping,
    certificate,
    claiming,
    closing,
    enrolling,
    extending,
    mesh,
    opening,
    settling,
    topping_up,
    transfer,
    voucher_frame,
)

PEOPLE = [ANN, BEN, CEM, DORA]


NEW_DEVICES = (("barn", "cem"), ("silo", "ben"), ("shed", "ann"))


class Plans:
    """What the owners of the street have agreed on so far: sound changes, and some follies."""

    def __init__(self, rng: Random, rules: int) -> None:
        self.rng = rng
        self.binding = mesh(rules)
        # Of each member: owner, weight, vote key ("" for the founding one), serial.
        self.known = {name: (owner, weight, "", 0) for name, owner, weight in FOUNDING}
        self.owner = {name: owner for name, owner, _ in FOUNDING} | dict(NEW_DEVICES)

    def next(self, submitter: bytes, nonce: int, time_s: int) -> SignedOp:
        """The next MEMBER op; a sound one is held to have happened."""
        rng = self.rng
        options = {"submitter": submitter, "nonce": nonce, "valid_until_s": time_s + HOUR_S}
        options["binding"] = self.binding
        name = rng.choice(sorted(self.owner))
        owner, weight, vote, serial = self.known.get(name, (self.owner[name], -1, "", 0))
        serial += 1
        folly = rng.randrange(12)
        if folly < 2 and weight >= 0:  # a lost journal: the owner alone
            vote = f"{name} votes {nonce}"
            approvers: tuple[str, ...] = (owner,)
        else:
            # Somebody always votes: the roof.
            weights = (3, 4, 7) if name == "roof" else (0, 1, 2, 5)
            weight = rng.choice([one for one in weights if one != weight])
            approvers = tuple(rng.sample(OWNERS, rng.choice([2, 3])))
        held = certificate(name, owner, vote=vote)
        if folly < 8:
            self.known[name] = (owner, weight, vote, serial)
            return enrolling(held, weight, serial, approvers, **options)
        if folly == 8:
            return enrolling(held, weight, serial + rng.choice([-1, 1]), approvers, **options)
        if folly == 9:
            return enrolling(held, weight, serial, approvers[:1], **options)
        if folly == 10:
            stolen = certificate(name, owner, vote="attic" if name != "attic" else "yard")
            return enrolling(stolen, weight, serial, approvers, **options)
        op = enrolling(held, weight, serial, approvers, **options)
        assert isinstance(op.body, SetMember)
        return replace(op, body=replace(op.body, weight=weight + 1))


def grown(rng: Random, channel: tuple[bytes, bytes, bytes], time_s: int, nonce: int) -> SignedOp:
    """An op that came with rules 3, for a channel (id, payer, payee)."""
    id, payer, payee = channel
    options = {"nonce": nonce, "valid_until_s": time_s + HOUR_S}
    party = rng.choice([payer, payer, payer, payee])
    match rng.randrange(6):
        case 0:
            return topping_up(party, id, rng.choice([0, 1, 20_000, 900_000]), **options)
        case 1:
            expiry_s = time_s + rng.choice([1, 12 * HOUR_S, 3 * DAY_S, 33 * DAY_S])
            return extending(party, id, expiry_s, **options)
        case 2:
            signer = rng.choice([payee, payee, payee, payer])
            frame = cap_frame(signer, id, rng.randrange(120_000), rng.randrange(3))
            return capping(rng.choice(PEOPLE), frame, **options)
        case _:
            frame = voucher_frame(payer, id, rng.randrange(200_000)) * rng.randrange(2)
            return settling(rng.choice([payee, payee, payee, payer]), id, frame, **options)


def history(seed: int, blocks: int, rules: int = 1) -> Iterator[tuple[list[SignedOp], int]]:
    """(ops, seconds since the last block) per block: sound ones mostly, and some of every folly."""
    later = Random(f"{seed}/rules 3")
    rng = Random(seed)
    time_s = START_S
    past: list[SignedOp] = []
    open_ids: list[tuple[bytes, bytes, bytes]] = []
    chance = Random(f"{seed}/members")
    plans = Plans(chance, rules)
    for height in range(blocks):
        after_s = rng.choice([0, 1, 5, 60, 600, HOUR_S, 3 * HOUR_S, DAY_S])
        time_s += after_s
        ops: list[SignedOp] = []
        for turn in range(rng.randrange(6)):
            options = {
                "nonce": 100 * height + turn,
                "valid_until_s": time_s + rng.choice([0, 60, HOUR_S, DAY_S, DAY_S + 1, -1]),
            }
            payer, payee, third = rng.sample(PEOPLE, 3)
            choice = rng.randrange(10)
            if choice < 2:
                amount = rng.choice([0, 1, 77, 5_000, 600_000])
                ops.append(transfer(payer, payee, amount, **options))
            elif choice < 4 or not open_ids:
                expiry_s = time_s + rng.choice([HOUR_S, 6 * HOUR_S, 2 * DAY_S])
                splits = (Split(third, rng.choice([1, 50_000, 333_333])),) * rng.randrange(2)
                escrow = rng.randrange(1, 200_000)
                op = opening(
                    payer, payee, escrow, expiry_s, rng.choice([1, 4]) * HOUR_S, splits, **options
                )
                open_ids = [*open_ids[-8:], (op.id[:16], payer, payee)]
                ops.append(op)
            elif choice < 8:
                id, signer, _ = rng.choice(open_ids)
                frame = voucher_frame(signer, id, rng.randrange(150_000), rng.randrange(3))
                ops.append(claiming(third, frame, **options))
            elif choice < 9:
                id, one, other = rng.choice(open_ids)
                frame = voucher_frame(one, id, rng.randrange(150_000)) * rng.randrange(2)
                ops.append(closing(rng.choice([one, other, other, third]), id, frame, **options))
            elif past:
                ops.append(rng.choice(past[-20:]))
        if chance.randrange(3) == 0:
            ops.append(plans.next(chance.choice(PEOPLE), 100 * height + 99, time_s))
        if rules >= 3 and open_ids:
            for turn in range(later.randrange(4)):
                nonce = 100 * height + 50 + turn
                ops.append(grown(later, later.choice(open_ids), time_s, nonce))
        past += ops
        yield ops, after_s


def digest(seed: int, blocks: int, rules: int) -> str:
    """State root and BLAKE2b of all results and events of a history, as text.

    What events have said since rules 3 is left out where there is nothing of it to say.
    """
    book = Book(rules=rules)
    told = blake2b(digest_size=16)
    for ops, after_s in history(seed, blocks, rules):
        results = book.block(*ops, after_s=after_s)
        told.update(repr((results, book.events)).replace(", earlier=0)", ")").encode())
    return f"{book.ledger.root.hex()} {told.hexdigest()}"


if __name__ == "__main__":
    sys.stdout.write(digest(*map(int, sys.argv[1:])) + "\n")
