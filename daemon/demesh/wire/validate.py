"""Validation of frames: the compiled implementation where it is built, else the pure one.

Both behave the same, call by call; `DEMESH_PURE=1` in the environment chooses the pure one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# One type for both: the pure implementation is the compiled one's interface too.
if TYPE_CHECKING or os.environ.get("DEMESH_PURE") == "1":
    from demesh.wire._reference import Allowance, Validator, View, canonical

    COMPILED: bool = False
else:
    try:
        from demesh.wire._hotpath import Allowance, Validator, View, canonical

        COMPILED = True
    except ImportError:
        from demesh.wire._reference import Allowance, Validator, View, canonical

        COMPILED = False

__all__ = ["COMPILED", "Allowance", "Validator", "View", "canonical"]
