"""Writes effects anew: `python -m transcripts.write NAME ...`, then read the diff.

Needs tests/ on the path. Without a name it says which there are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from transcripts.play import play

HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    if not names:
        print("which one?", *sorted(path.stem for path in HERE.glob("*.txt")))
        return 2
    for name in names:
        path = HERE / f"{name.removesuffix('.txt')}.txt"
        path.write_text(play(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
