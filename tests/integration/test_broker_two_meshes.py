"""Two meshes of real daemons on one embedded broker: each decides as if it were alone there."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import boards
from benchmarks.customer import Customer
from broker.process import running
from broker.rawclient import Visitors

OPS = 5

pytestmark = pytest.mark.xdist_group("street")  # six daemons: they need the cores


async def _spends(mesh: boards.Boards, port: int) -> Customer:
    customer = Customer(mesh)
    async with customer.connected(port):
        await customer.everybody()
        for number in range(1, OPS):
            await customer.buy(number, number)
    return customer


async def test_two_meshes_on_one_broker_decide_each_its_own(tmp_path: Path) -> None:
    meshes = [boards.found(tmp_path / name, 3, name) for name in ("east", "west")]
    async with running() as broker:
        visitors = Visitors(broker.port)
        view = await visitors.connect("view")
        await view.subscribe(("demesh/1/+/obs/+/state", 0))
        with ExitStack() as stack:
            for mesh in meshes:
                stack.enter_context(mesh.running(broker.port))
            customers = await asyncio.gather(*(_spends(mesh, broker.port) for mesh in meshes))
            said = [(m.topic.split("/")[2], json.loads(m.payload)) for m in await view.messages()]
        # The only ops there are of each mesh were final there, in blocks of its own.
        assert [customer.ops for customer in customers] == [OPS, OPS]
        roots = [
            {state["root"] for of, state in said if of == mesh.topics.mine("op").split("/")[2]}
            for mesh in meshes
        ]
        assert all(roots)
        assert not roots[0] & roots[1]
        # Nobody heard of a stranger, or had anything to reject.
        assert max(len(state["up"]) for _, state in said) == 4
        assert all(state["rejects"] == {} for _, state in said)
        assert (await broker.counters())["closed/taken_over"] == 0
        visitors.leave()
