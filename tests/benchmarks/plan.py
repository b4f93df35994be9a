"""How thorough a run is, and where it may write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STREET = ROOT / "configs" / "scenarios" / "street.toml"


@dataclass(frozen=True, slots=True)
class Plan:
    """`folder` is for data whose durability is measured, so it lies on the disk of the runs."""

    folder: Path
    quick: bool = False

    def count(self, full: int, quick: int = 1) -> int:
        """How many of something: the full number, or the least that still runs the code."""
        return quick if self.quick else full
