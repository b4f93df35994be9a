"""`python -m demesh.broker --port N`: a broker for tests and swarms, open, on this machine only.

Prints one line with its address once it listens; ends by SIGINT or SIGTERM. `demesh broker` is the
same with accounts, rights, TLS and a data folder.
"""

from __future__ import annotations

import argparse
import sys

from demesh.broker.limits import Limits
from demesh.broker.process import run
from demesh.broker.settings import BrokerConfig, Endpoint
from demesh.errors import DemeshError


def main() -> int:
    """Exit code 0 after a signal, otherwise that of the error."""
    parser = argparse.ArgumentParser(prog="python -m demesh.broker", description=__doc__)
    parser.add_argument("--port", type=int, default=1883, help="0 takes a free one")
    parser.add_argument(
        "--unpaced", action="store_true", help="read every client as fast as it writes: to measure"
    )
    arguments = parser.parse_args()
    limits = Limits(packets_per_s_max=None) if arguments.unpaced else Limits()
    try:
        run(BrokerConfig((Endpoint(port=arguments.port),), limits=limits))
    except DemeshError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
