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
R-LED-14  CLOSE by the payee settles at once. CLOSE by the payer starts the window, once and not
          after expiry. A riding voucher is recorded first and must be valid; it need not raise
          anything, for anyone may have claimed it before.
R-LED-15  By itself a channel settles at window + the payer's close or the expiry, whichever of the
          two is first. What it pays then is payout.py's.
R-LED-17  Splits name distinct existing accounts with ppm >= 1; with the commons at most 10^6.
R-LED-42  TOP_UP by the payer adds `amount` (at least 1) to the escrow, from its account and never
          below its floor, unless it has closed the channel or the channel has expired.
R-LED-43  EXTEND by the payer moves the expiry to a later time within R-LED-11, unless as above.
R-LED-46  With a link, in CLAIM, CLOSE or SETTLE, a voucher's total is that of wire/payword.py. One
          that has only a part of a chain, or whose links could be worth more than an amount, is no
          voucher; a link that is none of the chain is LINK.
R-LED-48  A block checks WALKS_MAX links at most; an op with one more gets CROWDED, is not recorded
          and may come again.
R-LED-45  CAP, by anyone: a cap signed by the channel's payee, for this channel, on a lane below
          LANES_MAX: it wants no more than that there. The least of each lane is recorded; a cap
          below what was settled of the lane (R-LED-44) is one of just that, and a cap that lowers
          none is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from demesh.ledger.draft import Draft
from demesh.ledger.events import Capped, Cause, Claimed, Closing, Event, Extended, Opened
from demesh.ledger.payout import pay, settle
from demesh.ledger.state import AMOUNT_MAX, PPM, TIME_S_MAX, Channel, Lane, Result
from demesh.wire import payword
from demesh.wire.offers import Split
from demesh.wire.opbodies import CapLane, Claim, Close, Extend, OpenChannel, Settle, TopUp
from demesh.wire.readings import Cap, Voucher

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

# A link is up to 4,096 hashes: 1.8 ms here (`make bench ONLY=claims`), a block of these 0.12 s.
WALKS_MAX = 64

OpenVoucher = Callable[[bytes], tuple[bytes, Voucher | Cap] | None]
"""Of a VOUCHER or CAP frame the signer and what it says, or None unless the signature holds."""

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
    if body.escrow > draft.room(payer):
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
        fee_ppm=draft.commons_ppm if draft.rules.grown else None,
    )
    draft.post(payer, -body.escrow)
    draft.put_channel(id, channel)
    opened = Opened(id, body.agreement, payer, body.payee, body.escrow, body.expiry_s)
    return (opened,)


def claim(draft: Draft, body: Claim, open_voucher: OpenVoucher) -> Outcome:
    """CLAIM (R-LED-12)."""
    payer, voucher = open_voucher(body.voucher) or (b"", None)
    if not isinstance(voucher, Voucher):
        return Result.VOUCHER
    channel = draft.channel(voucher.channel)
    if channel is None:
        return Result.CHANNEL
    raised = _raised(draft, channel, payer, voucher, body)
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
    ridden = _ridden(draft, channel, body, open_voucher)
    if isinstance(ridden, Result):
        return ridden
    channel, events = ridden
    if by_payer:
        close_at_s = draft.time_s + channel.window_s
        draft.put_channel(body.channel, replace(channel, close_at_s=close_at_s))
        parties = (body.channel, channel.agreement, channel.payer, channel.payee)
        return (*events, Closing(*parties, close_at_s))
    draft.put_channel(body.channel, channel)
    return (*events, settle(draft, body.channel, Cause.PAYEE))


def settle_claims(draft: Draft, signer: bytes, body: Settle, open_voucher: OpenVoucher) -> Outcome:
    """SETTLE (R-LED-44)."""
    channel = draft.channel(body.channel)
    if channel is None:
        return Result.CHANNEL
    if signer != channel.payee:
        return Result.PARTY
    ridden = _ridden(draft, channel, body, open_voucher)
    if isinstance(ridden, Result):
        return ridden
    paid = pay(draft, body.channel, ridden[0])
    return Result.NOTHING if paid is None else (*ridden[1], paid)


def cap_lane(draft: Draft, body: CapLane, open_cap: OpenVoucher) -> Outcome:
    """CAP (R-LED-45)."""
    payee, cap = open_cap(body.cap) or (b"", None)
    if not isinstance(cap, Cap):
        return Result.CAP
    channel = draft.channel(cap.channel)
    if channel is None:
        return Result.CHANNEL
    if payee != channel.payee:
        return Result.CAP
    if cap.lane >= LANES_MAX:
        return Result.LANE
    lane = channel.lane(cap.lane)
    least = max(cap.cap, lane.settled)
    if lane.cap is not None and least >= lane.cap:
        return Result.NOTHING
    capped = _with_lane(channel, replace(lane, cap=least))
    draft.put_channel(cap.channel, capped)
    parties = (cap.channel, channel.agreement, channel.payer, channel.payee)
    return (Capped(*parties, cap.lane, least, capped.claimed),)


def top_up(draft: Draft, signer: bytes, body: TopUp) -> Outcome:
    """TOP_UP (R-LED-42)."""
    channel = _growing(draft, signer, body.channel)
    if isinstance(channel, Result):
        return channel
    escrow = channel.escrow + body.amount
    if body.amount < 1 or escrow > AMOUNT_MAX:
        return Result.AMOUNT
    if body.amount > draft.room(signer):
        return Result.FUNDS
    draft.post(signer, -body.amount)
    return _extended(draft, body.channel, replace(channel, escrow=escrow))


def extend(draft: Draft, signer: bytes, body: Extend) -> Outcome:
    """EXTEND (R-LED-43)."""
    channel = _growing(draft, signer, body.channel)
    if isinstance(channel, Result):
        return channel
    latest_s = min(draft.time_s + EXPIRY_S_MAX, TIME_S_MAX - channel.window_s)
    if not channel.expiry_s < body.expiry_s <= latest_s:
        return Result.EXPIRY
    return _extended(draft, body.channel, replace(channel, expiry_s=body.expiry_s))


def _growing(draft: Draft, signer: bytes, id: bytes) -> Channel | Result:
    """The channel, if its payer may still give it more money or time."""
    channel = draft.channel(id)
    if channel is None:
        return Result.CHANNEL
    if signer != channel.payer:
        return Result.PARTY
    if channel.close_at_s is not None or draft.time_s >= channel.expiry_s:
        return Result.CLOSING
    return channel


def _extended(draft: Draft, id: bytes, channel: Channel) -> tuple[Event, ...]:
    draft.put_channel(id, channel)
    parties = (id, channel.agreement, channel.payer, channel.payee)
    return (Extended(*parties, channel.escrow, channel.expiry_s),)


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


def _ridden(
    draft: Draft, channel: Channel, body: Close | Settle, open_voucher: OpenVoucher
) -> tuple[Channel, tuple[Event, ...]] | Result:
    """The channel with a riding voucher recorded and what to tell of it, or why not (R-LED-14)."""
    if not body.voucher:
        return Result.LINK if body.count or body.link else (channel, ())
    payer, voucher = open_voucher(body.voucher) or (b"", None)
    if not isinstance(voucher, Voucher) or voucher.channel != body.channel:
        return Result.VOUCHER
    raised = _raised(draft, channel, payer, voucher, body)
    if isinstance(raised, Channel):
        return raised, (_claimed(raised, voucher),)
    return (channel, ()) if raised is Result.NOTHING else raised


def _raised(
    draft: Draft, channel: Channel, payer: bytes, voucher: Voucher, body: Claim | Close | Settle
) -> Channel | Result:
    """The channel with the voucher's total and link recorded on its lane, or why not."""
    if payer != channel.payer or not payword.sound(voucher):
        return Result.VOUCHER
    if not 0 <= voucher.lane < LANES_MAX:
        return Result.LANE
    lane, total = channel.lane(voucher.lane), voucher.cum + body.count * voucher.step
    if body.count or body.link:
        if draft.walks >= WALKS_MAX:
            return Result.CROWDED
        draft.walks += 1
        if not payword.fits(voucher, body.count, body.link):
            return Result.LINK
    if total <= lane.cum:
        return Result.NOTHING
    return _with_lane(channel, replace(lane, cum=total))


def _with_lane(channel: Channel, lane: Lane) -> Channel:
    others = [held for held in channel.lanes if held.lane != lane.lane]
    lanes = sorted([*others, lane], key=lambda held: held.lane)
    return replace(channel, lanes=tuple(lanes))


def _claimed(channel: Channel, voucher: Voucher) -> Claimed:
    return Claimed(
        channel=voucher.channel,
        agreement=channel.agreement,
        payer=channel.payer,
        payee=channel.payee,
        lane=voucher.lane,
        cum=channel.lane(voucher.lane).cum,
        claimed=channel.claimed,
    )
