"""Choose anew what is kept, by coverage: `python -m fuzz.gather SECONDS [target ...]`.

Atheris runs so long on each target; of all it came across, libFuzzer takes the smallest inputs that
together reach as much; of these some stay, short and long. What was kept before is a candidate too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz import corpus
from fuzz.targets import TARGETS

# A few dozen: every test run replays them all. Longer ones say little that shorter ones do not.
KEPT_MAX = 40
KEPT_BYTES_MAX = 500


def main() -> None:
    """Writes the files of the corpus that were asked for."""
    seconds, *names = sys.argv[1:]
    for name in names or TARGETS:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            reached, least = Path(folder, "reached"), Path(folder, "least")
            reached.mkdir()
            least.mkdir()
            for place, data in enumerate((*TARGETS[name]().seeds, *corpus.kept(name))):
                (reached / f"{place:04}").write_bytes(data)
            _guided(name, f"-max_total_time={seconds}", "-seed=1", str(reached))
            _guided(name, "-merge=1", str(least), str(reached))
            found = sorted((path.read_bytes() for path in least.iterdir()), key=_size)
        short = [data for data in found if len(data) <= KEPT_BYTES_MAX]
        chosen = short[:: -(-len(short) // KEPT_MAX) or 1]
        corpus.FOLDER.mkdir(exist_ok=True)
        lines = "".join(data.hex() + "\n" for data in chosen)
        (corpus.FOLDER / f"{name}.hex").write_text(lines, "ascii")
        print(f"{name}: {len(chosen)} of {len(found)}", flush=True)


def _size(data: bytes) -> tuple[int, bytes]:
    return len(data), data


def _guided(*arguments: str) -> None:
    command = [sys.executable, "-m", "fuzz.guided", *arguments]
    ended = subprocess.run(command, capture_output=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr[-4_000:].decode("utf-8", "replace"))


if __name__ == "__main__":
    main()
