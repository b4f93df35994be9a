"""PayWord: a chain of hashes on a voucher, each link of which is worth a step more.

Whoever pays draws the last link and hashes it down to the root, which it signs once in a voucher.
Every link it then gives away proves all those between it and the root, so the payee keeps one link
and one count. Source: Rivest and Shamir, "PayWord and MicroMint", 1996. The hash holds channel and
lane, so no link is worth anything elsewhere.

R-LED-46  A voucher is worth `cum`, with a link that is `count` steps before its root
          cum + count * step.
"""

from __future__ import annotations

import hashlib

from demesh.wire.readings import Voucher

LINK_BYTES = 16
_AMOUNT_MAX = 2**53 - 1


def root_of(link: bytes, count: int, channel: bytes, lane: int) -> bytes:
    """What `count` steps lead to from a link of 16 bytes; `count` hashes."""
    label = b"tk1" + channel + bytes([lane])
    for _ in range(count):
        link = hashlib.blake2b(label + link, digest_size=LINK_BYTES).digest()
    return link


def sound(voucher: Voucher) -> bool:
    """Whether it has a whole chain or none, and no worth that is no amount."""
    if not voucher.root:
        return voucher.step == voucher.count_max == 0
    return (
        len(voucher.root) == LINK_BYTES
        and voucher.step >= 1
        and voucher.count_max >= 1
        and voucher.cum + voucher.count_max * voucher.step <= _AMOUNT_MAX
    )


def fits(voucher: Voucher, count: int, link: bytes) -> bool:
    """Whether `link` is of this sound voucher's chain; without one `count` is 0. `count` hashes."""
    if not count or not link:
        return not count and not link
    return (
        count <= voucher.count_max
        and len(link) == LINK_BYTES
        and root_of(link, count, voucher.channel, voucher.lane) == voucher.root
    )
