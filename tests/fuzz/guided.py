"""Fuzzing guided by coverage: Atheris watches the pure implementation, the compiled one follows.

    python -m fuzz.guided TARGET [libFuzzer's options] FOLDER ...

The first folder's inputs are where it begins and where those go that reach something new. With
`-merge=1 TO FROM` it copies what is worth keeping from one folder to the other.
"""

from __future__ import annotations

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["demesh", "demesh_consensus"]):
    from fuzz.targets import TARGETS

# Its own mutator knows what the last inputs compared with, ours knows CBOR.
OURS = 0.6


def main() -> None:
    """Never returns."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]()

    def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
        dice = Random(seed)
        if dice.random() < OURS:
            return target.mutate(dice, bytes(data), target.seeds)[:bytes_max]
        return bytes(atheris.Mutate(data, bytes_max))

    limits = [f"-max_len={target.bytes_max}", "-timeout=60", "-rss_limit_mb=2048"]
    # libFuzzer runs this line again in a shell when it merges.
    arguments = [
        f"{sys.executable} -m fuzz.guided {name}",
        *limits,
        "-print_final_stats=1",
        *options,
    ]
    atheris.Setup(arguments, target.run, custom_mutator=mutate, internal_libfuzzer=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
