"""People pay each other in a mesh of processes with `demesh transfer`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.mesh import Mesh
from cli.test_run import Street
from transport.brokers import BrokerProcess, embedded

pytestmark = pytest.mark.xdist_group("street")  # one street at a time: they need the cores


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    process = embedded(tmp_path)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def street(tmp_path: Path, broker: BrokerProcess) -> Iterator[Street]:
    boards = Street(Mesh(tmp_path, broker.url, owners=("anna", "boris")))
    yield boards
    boards.kill_all()


def balances(mesh: Mesh) -> dict[str, int]:
    done = mesh.demesh("account", "--json", "--config", str(mesh.boards[0].config))
    return {one["name"]: one["balance"] for one in json.loads(done.stdout)["accounts"]}


def test_a_device_pays_an_owner_who_pays_another_and_nothing_is_paid_twice(street: Street) -> None:
    mesh = street.mesh
    street.start(*mesh.boards)
    config = str(mesh.boards[0].config)

    paid = mesh.demesh("transfer", "anna", "2.50", "--config", config)
    assert (paid.returncode, paid.stderr) == (0, "")
    assert paid.stdout.startswith("done by block ")
    assert "board0 paid 2.50 credits to anna, and has 997.50 left to spend" in paid.stdout

    key = str(mesh.owner_key("anna"))
    passed_on = mesh.demesh("transfer", "boris", "0.000001", "--config", config, "--owner-key", key)
    assert (passed_on.returncode, passed_on.stderr) == (0, "")
    assert "anna paid 0.000001 credits to boris, and has 2.499999 left" in passed_on.stdout

    after = balances(mesh)
    assert (after["board0"], after["anna"], after["boris"]) == (-2_500_000, 2_499_999, 1)
    assert sum(after.values()) == 0

    data, genesis = str(mesh.boards[0].folder / "data"), str(mesh.folder / "genesis.cbor")
    checked = mesh.demesh("ledger", "verify", "--data", data, "--genesis", genesis)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.startswith("good: blocks 1..")
    assert "7 accounts and 0 open channels add up to 0" in checked.stdout
