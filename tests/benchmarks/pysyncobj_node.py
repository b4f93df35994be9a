"""One node of a PySyncObj cluster, in a process of its own: orders come as lines, answers go out.

python pysyncobj_node.py OPTIONS: a JSON object of `me` and `others` (addresses), `journal` (a path)
and `settings` (SyncObjConf). It knows nothing of Demesh, so its memory is PySyncObj's.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

PATIENCE_S = 20.0


class Register(SyncObj):
    """Keeps the last value."""

    def __init__(self, me: str, others: list[str], settings: SyncObjConf) -> None:
        super().__init__(me, others, settings)
        self.value = ""

    @replicated
    def put(self, value: str) -> None:
        """Replicated to all."""
        self.value = value


def load(register: Register, clients: int, seconds: float, value_bytes: int) -> list[int]:
    """So many clients write for so long, each its next value when one is there; ns each."""
    value, taken, end = "x" * value_bytes, [], time.monotonic() + seconds
    busy = threading.Semaphore(0)

    def put() -> None:
        began = time.monotonic_ns()

        def done(_: Any, error: int) -> None:
            now = time.monotonic()
            if not error and now < end:
                taken.append(time.monotonic_ns() - began)
            if now < end:
                put()
            else:
                busy.release()

        register.put(value, callback=done)

    for _ in range(clients):
        put()
    for _ in range(clients):
        busy.acquire(timeout=PATIENCE_S)
    return taken


def main() -> None:
    """Answer until the orders end."""
    options = json.loads(sys.argv[1])
    settings = SyncObjConf(journalFile=options["journal"], **options["settings"])
    register = Register(options["me"], options["others"], settings)
    for line in sys.stdin:
        order = json.loads(line)
        if order == "leader":
            answer: object = register.isReady() and register._isLeader()
        else:
            answer = load(register, *order)
        print(json.dumps(answer), flush=True)
    register.destroy()


if __name__ == "__main__":
    main()
