"""The brokers that answer the conformance probes: ours, and mosquitto where it is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from broker.rawclient import Visitors
from demesh.broker.server import Server
from integration.differences import DIFFERENCES, RELEASE

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
CONFIG = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_packet_size 262144
log_dest stderr
log_type information
"""


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a mosquitto of our own."""
    if MOSQUITTO is None:
        pytest.skip("no mosquitto to compare with: apt-get install mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config: Path = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    config.write_text(CONFIG.format(port=port))
    process = subprocess.Popen([MOSQUITTO, "-c", config], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "running" in line:
            break
    else:
        pytest.fail(f"mosquitto did not start: {''.join(said)}")
    yield port
    process.terminate()
    process.wait(10)
    process.stderr.close()


@pytest.fixture(params=["embedded", "mosquitto"])
async def visitors(request: pytest.FixtureRequest) -> AsyncIterator[Visitors]:
    """Who can call on a broker, one of the two."""
    if request.param == "mosquitto":
        visitors = Visitors(request.getfixturevalue("mosquitto"))
        yield visitors
        visitors.leave()
    else:
        async with Server() as server:
            visitors = Visitors(server.port)
            yield visitors
            visitors.leave()


@pytest.fixture(scope="session")
def release() -> str:
    """The version of the mosquitto that is installed; "" for none."""
    if MOSQUITTO is None:
        return ""
    said = subprocess.run([MOSQUITTO, "-h"], capture_output=True, text=True, check=False).stdout
    return said.split()[2]


@pytest.fixture
def differs(
    visitors: Visitors, release: str, request: pytest.FixtureRequest
) -> Callable[[str], bool]:
    """Whether this is mosquitto, where it does what the named row of `DIFFERENCES` says."""

    def of(name: str) -> bool:
        assert name in DIFFERENCES
        if "mosquitto" not in request.node.callspec.params.values():
            return False
        if release != RELEASE:
            pytest.skip(f"mosquitto {release} may do otherwise here than {RELEASE}: {name}")
        return True

    return of
