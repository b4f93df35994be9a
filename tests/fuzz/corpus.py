"""Inputs that are kept: a few that reach far, one line of hex each, and every one that was found.

corpus/<target>.hex        chosen by coverage, or by hand with a comment that says why
corpus/<target>/<hash>     a finding, as it was; it stays when its cause is gone
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def kept(name: str) -> tuple[bytes, ...]:
    """All that is kept for a target, findings included."""
    inputs = []
    lines = FOLDER / f"{name}.hex"
    if lines.exists():
        for line in lines.read_text("ascii").splitlines():
            content = line.partition("#")[0].strip()
            if content or "#" not in line:
                inputs.append(bytes.fromhex(content))
    return (*inputs, *(path.read_bytes() for path in sorted((FOLDER / name).glob("*"))))


def keep(name: str, found: bytes) -> Path:
    """Where a finding now lies."""
    path = FOLDER / name / blake2b(found, digest_size=8).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(found)
    return path
