"""The daemon's log: one line per thing a person should know, on standard error, in no file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

# Priorities of sd-daemon(3), which journald takes off the line again.
_PRIORITY = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class _Journald(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 5)}>{super().format(record)}"


def open_log(environment: Mapping[str, str] = os.environ) -> None:
    """Log to standard error: with priorities under journald, with the time anywhere else."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in environment:
        handler.setFormatter(_Journald("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
