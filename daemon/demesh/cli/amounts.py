"""Credits as people write them, to micro-credits: digits only, no float on the way."""

from __future__ import annotations

import re

from demesh.errors import ConfigError
from demesh.ledger.state import AMOUNT_MAX

MICRO = 1_000_000


def amount_of(text: str) -> int:
    """Micro-credits in an amount of credits like 2.50; raises ConfigError unless it is above 0."""
    found = re.fullmatch(r"([0-9]{1,10})(?:\.([0-9]{1,6}))?", text, re.ASCII)
    if found is None:
        raise ConfigError(
            f"amount {text}: expected credits with a point and up to six digits behind it, as 2.50"
        )
    whole, rest = found[1], found[2] or ""
    amount = int(whole) * MICRO + int(rest.ljust(6, "0"))
    if not 1 <= amount <= AMOUNT_MAX:
        raise ConfigError(f"amount {text}: expected 0.000001 to 9007199254.740991 credits")
    return amount
