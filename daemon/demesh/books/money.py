"""Micro-credits in hundredths of a currency, and how amounts and quantities are written.

R-BIL-2  A treasury says how many micro-credits one hundredth of its currency is (`unit_micro`, at
         least 1). Whatever leaves the mesh in that currency is rounded down to whole hundredths,
         for each payee and each line of an invoice on its own; the rest stays in the account.
"""

from __future__ import annotations


def cents_of(amount_micro: int, unit_micro: int) -> tuple[int, int]:
    """Whole hundredths in an amount, and the micro-credits that are left over."""
    if amount_micro < 0 or unit_micro < 1:
        raise ValueError(f"{amount_micro} micro-credits at {unit_micro} each: not an amount")
    return divmod(amount_micro, unit_micro)


def decimal(value: int, places: int) -> str:
    """`value` x 10^-places with all its places: (1240, 2) is 12.40; not for negative ones."""
    if value < 0:
        raise ValueError(f"{value} is negative")
    digits = str(value).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def plain(value: int, places: int) -> str:
    """The same without zeros at the end: (12400, 3) is 12.4."""
    written = decimal(value, places)
    return written.rstrip("0").rstrip(".") if places else written
