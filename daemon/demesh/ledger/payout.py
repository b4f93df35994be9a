"""What a channel pays: to whom, how much and when, by SETTLE as at its end.

R-LED-13  In all a channel pays min(sum over lanes of min(greatest claim, least cap), escrow),
          whatever the order, duplicates or senders of its claims and caps.
R-LED-16  Of what a channel pays, the commons gets floor(paid x fee_ppm / 10^6), each split
          floor(paid x ppm / 10^6), the payee the rest; the payer gets back escrow - paid. Floors
          are taken once, on the total, so how claims were chopped changes nothing. The payee gains
          what they cut off: less than one micro-credit for each.
R-LED-44  SETTLE by the payee: pays what was claimed so far and not paid yet; a riding voucher is as
          in CLOSE. From then on no cap takes a lane below what it was good for. Nobody gives
          anything back later: the commons and the splits have their floors of the total so far, the
          payee has total - floor(total x all their ppm / 10^6). What is between, less than one
          micro-credit for each part but one, waits for the end.
R-LED-50  `fee_ppm` is the commons_ppm of when the channel was opened (before rules 3: of when it
          settles).

Why the payee waits for a few micro-credits: its rest of a total is not monotone, for several floors
may rise with the same micro-credit. total - floor(total x all ppm / 10^6) is, and is never more
than the rest of any later total.
"""

from __future__ import annotations

from dataclasses import replace

from demesh.ledger.draft import Draft
from demesh.ledger.events import Cause, Paid, Settled
from demesh.ledger.state import PPM, Channel

Payment = tuple[int, ...]
"""Micro-credits: to the payee, to the commons, and to each split."""


def share(paid: int, ppm: int) -> int:
    """`ppm` millionths of a cumulative total, rounded down for the payee's good (R-LED-16)."""
    return paid * ppm // PPM


def held(channel: Channel) -> int:
    """What an open channel has: its escrow less what it has paid out, in micro-credits."""
    return channel.escrow - sum(_so_far(channel, channel.fee_ppm or 0, channel.paid))


def pay(draft: Draft, id: bytes, channel: Channel) -> Paid | None:
    """Pay what was claimed so far and not paid yet (R-LED-44); None if there is nothing."""
    total = channel.claimed
    assert channel.fee_ppm is not None and total >= channel.paid, "R-LED-50, R-LED-44"
    if total == channel.paid:
        return None
    before = _so_far(channel, channel.fee_ppm, channel.paid)
    payment = _less(_so_far(channel, channel.fee_ppm, total), before)
    lanes = tuple([replace(lane, settled=lane.value) for lane in channel.lanes])
    draft.put_channel(id, replace(channel, lanes=lanes, paid=total))
    _post(draft, channel, payment)
    return Paid(
        channel=id,
        agreement=channel.agreement,
        payer=channel.payer,
        payee=channel.payee,
        paid=sum(payment),
        received=payment[0],
        fee=payment[1],
        shares=_shares(channel, payment),
    )


def settle_due(draft: Draft, count: int) -> tuple[Settled, ...]:
    """Settle at most `count` channels whose time has come, the longest due first (R-LED-15)."""
    return tuple([settle(draft, id, None) for id in draft.due_channels(count)])


def settle(draft: Draft, id: bytes, why: Cause | None) -> Settled:
    """Pay a channel out and remove it (R-LED-13, 16); without `why`, its own record says why."""
    channel = draft.channel(id)
    assert channel is not None, "only an open channel settles"
    if why is None:
        why = Cause.EXPIRY if channel.close_at_s is None else Cause.PAYER
    fee_ppm = draft.commons_ppm if channel.fee_ppm is None else channel.fee_ppm
    total = channel.claimed
    before = _so_far(channel, fee_ppm, channel.paid)
    payment = _less(_in_all(channel, fee_ppm, total), before)
    refund = channel.escrow - total
    draft.drop_channel(id)
    _post(draft, channel, payment)
    if refund:
        draft.post(channel.payer, refund)
    return Settled(
        channel=id,
        agreement=channel.agreement,
        payer=channel.payer,
        payee=channel.payee,
        paid=sum(payment),
        received=payment[0],
        fee=payment[1],
        shares=_shares(channel, payment),
        refund=refund,
        why=why,
        earlier=sum(before),
    )


def _in_all(channel: Channel, fee_ppm: int, total: int) -> Payment:
    """Who has what once the channel has paid `total` and ends (R-LED-16)."""
    cuts = _cuts(channel, fee_ppm, total)
    return (total - sum(cuts), *cuts)


def _so_far(channel: Channel, fee_ppm: int, total: int) -> Payment:
    """Who has what once SETTLE has paid, `total` being what the lanes are good for (R-LED-44)."""
    whole = fee_ppm + sum(split.ppm for split in channel.splits)
    return (total - share(total, whole), *_cuts(channel, fee_ppm, total))


def _cuts(channel: Channel, fee_ppm: int, total: int) -> Payment:
    splits = [share(total, split.ppm) for split in channel.splits]
    return (share(total, fee_ppm), *splits)


def _less(after: Payment, before: Payment) -> Payment:
    return tuple([late - early for late, early in zip(after, before, strict=True)])


def _post(draft: Draft, channel: Channel, payment: Payment) -> None:
    accounts = (channel.payee, draft.commons, *[split.account for split in channel.splits])
    for account, amount in zip(accounts, payment, strict=True):
        assert amount >= 0, "R-LED-16, 44: no part of a payment is negative"
        if amount:
            draft.post(account, amount)


def _shares(channel: Channel, payment: Payment) -> tuple[tuple[bytes, int], ...]:
    accounts = [split.account for split in channel.splits]
    return tuple(zip(accounts, payment[2:], strict=True))
