"""Channels: money set aside for one payee, claimed by vouchers, paid out exactly once.

Theory of operation. A voucher says how much its payer owes in total on a lane, so claims only ever
record maxima, in any order, from anybody; nothing moves until the channel settles. It settles when
the payee says so (it gives up what it has not claimed), or a window after the payer says so or the
channel expires: whoever holds a better voucher has that long to bring it, even if one leader after
another leaves the claim out. So a payer never gains by closing early, nor a payee by closing late,
and every escrow comes back without anybody's help.

R-LED-10  OPEN takes `escrow` (at least 1) from the signer's account, never below its floor, for a
          payee with another account. The channel's id is the first 16 bytes of the op's id; an id
          that is in use is refused.
R-LED-11  time < expiry <= time + EXPIRY_S_MAX; WINDOW_S_MIN <= window <= WINDOW_S_MAX; at most
          CHANNELS_MAX open channels for each payer.
R-LED-12  CLAIM, by anyone: a voucher signed by the channel's payer, for this channel, on a lane
          below LANES_MAX. The greatest total of each lane is recorded; a claim that raises none is
          refused.
R-LED-13  A channel pays min(sum over lanes of the greatest claim, escrow), whatever the order,
          duplicates or senders of its claims.
R-LED-14  CLOSE by the payee settles at once. CLOSE by the payer starts the window, once and not
          after expiry. A riding voucher is recorded first and must be valid; it need not raise
          anything, for anyone may have claimed it before.
R-LED-15  By itself a channel settles at window + the payer's close or the expiry, whichever of the
          two is first.
R-LED-16  Of what a channel pays, the commons gets floor(paid x commons_ppm / 10^6), each split
          floor(paid x ppm / 10^6), the payee the rest; the payer gets back escrow - paid. Floors
          are taken once, on the total, so how claims were chopped changes nothing. The payee gains
          what they cut off: less than one micro-credit for each.
R-LED-17  Splits name distinct existing accounts with ppm >= 1; with the commons at most 10^6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from demesh.ledger.draft import Draft
from demesh.ledger.events import Cause, Claimed, Closing, Event, Opened, Settled
from demesh.ledger.state import PPM, TIME_S_MAX, Channel, Lane, Result
from demesh.wire.offers import Split
from demesh.wire.opbodies import Claim, Close, OpenChannel
from demesh.wire.readings import Voucher

# A calendar month with a day to spare: bills run by the month, and a payer who lost its keys or its
# memory has the escrow back within five weeks. Longer business opens the next channel.
EXPIRY_S_MAX = 32 * 86_400

# Shorter than an hour, and a rebooted payee or a watchtower behind a bad link misses it; a channel
# that is closed by its payee does not wait at all. Longer than a week, and it only locks money up.
WINDOW_S_MIN = 3_600
WINDOW_S_MAX = 7 * 86_400

# A home has a handful of sessions at a time; this leaves room for a fleet on one account and bounds
# what one account can make every device store (about 40 kB).
CHANNELS_MAX = 256

# A record of a channel stays below 1 KiB with every lane in use.
LANES_MAX = 64

OpenVoucher = Callable[[bytes], tuple[bytes, Voucher] | None]
"""A voucher frame's (payer, voucher), or None unless its signature is the payer's."""

Outcome = Result | tuple[Event, ...]
"""Why a rule refused and wrote nothing, or what it did."""


def open_channel(draft: Draft, op: bytes, payer: bytes, body: OpenChannel) -> Outcome:
    """OPEN (R-LED-10, 11, 17)."""
    account = draft.account(payer)
    if account is None:
        return Result.SIGNER
    if body.payee == payer or draft.account(body.payee) is None:
        return Result.PEER
    if body.escrow < 1:
        return Result.AMOUNT
    if not WINDOW_S_MIN <= body.window_s <= WINDOW_S_MAX:
        return Result.WINDOW
    latest_s = min(draft.time_s + EXPIRY_S_MAX, TIME_S_MAX - body.window_s)
    if not draft.time_s < body.expiry_s <= latest_s:
        return Result.EXPIRY
    if not _splits_fit(draft, body.splits):
        return Result.SPLITS
    if account.channels >= CHANNELS_MAX:
        return Result.CHANNELS
    if account.balance - body.escrow < account.floor:
        return Result.FUNDS
    id = op[:16]
    if draft.channel(id) is not None:
        return Result.TAKEN
    channel = Channel(
        payer=payer,
        payee=body.payee,
        escrow=body.escrow,
        lanes=(),
        expiry_s=body.expiry_s,
        window_s=body.window_s,
        close_at_s=None,
        agreement=body.agreement,
        splits=body.splits,
    )
    draft.post(payer, -body.escrow)
    draft.put_channel(id, channel)
    opened = Opened(id, body.agreement, payer, body.payee, body.escrow, body.expiry_s)
    return (opened,)


def claim(draft: Draft, body: Claim, open_voucher: OpenVoucher) -> Outcome:
    """CLAIM (R-LED-12)."""
    opened = open_voucher(body.voucher)
    if opened is None:
        return Result.VOUCHER
    payer, voucher = opened
    channel = draft.channel(voucher.channel)
    if channel is None:
        return Result.CHANNEL
    raised = _raised(channel, payer, voucher)
    if isinstance(raised, Result):
        return raised
    draft.put_channel(voucher.channel, raised)
    return (_claimed(raised, voucher),)


def close_channel(draft: Draft, signer: bytes, body: Close, open_voucher: OpenVoucher) -> Outcome:
    """CLOSE (R-LED-14)."""
    channel = draft.channel(body.channel)
    if channel is None:
        return Result.CHANNEL
    if signer not in (channel.payer, channel.payee):
        return Result.PARTY
    by_payer = signer == channel.payer
    if by_payer and (channel.close_at_s is not None or draft.time_s >= channel.expiry_s):
        return Result.CLOSING
    events: tuple[Event, ...] = ()
    if body.voucher:
        opened = open_voucher(body.voucher)
        if opened is None or opened[1].channel != body.channel:
            return Result.VOUCHER
        raised = _raised(channel, *opened)
        if isinstance(raised, Channel):
            channel = raised
            events = (_claimed(channel, opened[1]),)
        elif raised is not Result.NOTHING:
            return raised
    if by_payer:
        close_at_s = draft.time_s + channel.window_s
        draft.put_channel(body.channel, replace(channel, close_at_s=close_at_s))
        parties = (body.channel, channel.agreement, channel.payer, channel.payee)
        return (*events, Closing(*parties, close_at_s))
    draft.put_channel(body.channel, channel)
    return (*events, settle(draft, body.channel, Cause.PAYEE))


def settle_due(draft: Draft, count: int) -> tuple[Settled, ...]:
    """Settle at most `count` channels whose time has come, the longest due first (R-LED-15)."""
    return tuple([settle(draft, id, None) for id in draft.due_channels(count)])


def settle(draft: Draft, id: bytes, why: Cause | None) -> Settled:
    """Pay a channel out and remove it (R-LED-13, 16); without `why`, its own record says why."""
    channel = draft.channel(id)
    assert channel is not None, "only an open channel settles"
    if why is None:
        why = Cause.EXPIRY if channel.close_at_s is None else Cause.PAYER
    paid = channel.claimed
    fee = share(paid, draft.commons_ppm)
    shares = tuple([(split.account, share(paid, split.ppm)) for split in channel.splits])
    received = paid - fee - sum(amount for _, amount in shares)
    refund = channel.escrow - paid
    draft.drop_channel(id)
    for account, amount in (
        (draft.commons, fee),
        *shares,
        (channel.payee, received),
        (channel.payer, refund),
    ):
        assert amount >= 0, "R-LED-16: no part of a payout is negative"
        if amount:
            draft.post(account, amount)
    return Settled(
        channel=id,
        agreement=channel.agreement,
        payer=channel.payer,
        payee=channel.payee,
        paid=paid,
        received=received,
        fee=fee,
        shares=shares,
        refund=refund,
        why=why,
    )


def share(paid: int, ppm: int) -> int:
    """`ppm` millionths of a cumulative total, rounded down for the payee's good (R-LED-16)."""
    return paid * ppm // PPM


def _splits_fit(draft: Draft, splits: tuple[Split, ...]) -> bool:
    accounts = [split.account for split in splits]
    whole = draft.commons_ppm + sum(split.ppm for split in splits)
    return (
        all(split.ppm >= 1 for split in splits)
        and whole <= PPM
        and len(accounts) <= 4
        and len(set(accounts)) == len(accounts)
        and all(draft.account(account) is not None for account in accounts)
    )


def _raised(channel: Channel, payer: bytes, voucher: Voucher) -> Channel | Result:
    """The channel with the voucher's total recorded on its lane, or why not."""
    if payer != channel.payer:
        return Result.VOUCHER
    if not 0 <= voucher.lane < LANES_MAX:
        return Result.LANE
    if voucher.cum <= channel.paid_on(voucher.lane):
        return Result.NOTHING
    others = [held for held in channel.lanes if held.lane != voucher.lane]
    lanes = sorted([*others, Lane(voucher.lane, voucher.cum)], key=lambda held: held.lane)
    return replace(channel, lanes=tuple(lanes))


def _claimed(channel: Channel, voucher: Voucher) -> Claimed:
    return Claimed(
        channel=voucher.channel,
        agreement=channel.agreement,
        payer=channel.payer,
        payee=channel.payee,
        lane=voucher.lane,
        cum=voucher.cum,
        claimed=channel.claimed,
    )
