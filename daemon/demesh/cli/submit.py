"""An op on its way into the ledger: published by a device, signed by it or by an owner, awaited.

The device's own daemon hears it too, passes nothing on and shows in its ledger what became of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

from nacl.signing import SigningKey

from demesh.cli.links import links
from demesh.cli.members import Mesh, read_mesh
from demesh.errors import TemporaryError
from demesh.ledger.ops import SignedOp
from demesh.ledger.state import Result
from demesh.ports import Publish
from demesh.storage.keys import load_key
from demesh.transport.names import NamesLoop
from demesh.transport.once import publish_once
from demesh.wire import identity
from demesh.wire.frame import seal_statement
from demesh.wire.kinds import Kind
from demesh.wire.opbodies import OP_BODIES, Op, OpBody
from demesh.wire.schema import encode
from demesh.wire.topics import Topics

# The clock of an idle mesh runs on for an hour after its last block, and an hour is for the op.
VALID_S = 7_200

# A busy mesh decides within a second and the ledger is on disk one later; on poor radio, with a
# hand-over before it, it may take ten times that. Who waits longer looks again later.
PATIENCE_S = 30.0
LOOK_S = 0.5
AGAIN_S = 5.0


class Submission:
    """One op that the device of a configuration publishes."""

    def __init__(
        self, path: Path, mesh: Mesh, body: OpBody, owner_key: SigningKey | None = None
    ) -> None:
        """Sign it, with the device's key unless an owner's is given; raises KeyFileError."""
        self._path, self._mesh = path, mesh
        device_key = load_key(mesh.folder / mesh.config.device.key)
        key = owner_key or device_key
        signer = identity.device_id(bytes(key.verify_key))
        valid_until_s = mesh.ledger.time_s + VALID_S
        (type,) = (type for type, cls in OP_BODIES.items() if isinstance(body, cls))
        payload = encode(Op(type, os.urandom(8), valid_until_s, encode(body)))
        id = hashlib.blake2b(signer + payload, digest_size=32).digest()
        self.op = SignedOp(id, signer, valid_until_s, body)
        binding = identity.binding_of(mesh.id, mesh.body)
        frame = seal_statement(Kind.OP, binding, signer, payload, identity.signer(key))
        self._device = identity.device_id(bytes(device_key.verify_key))
        self._publish = Publish(Topics(mesh.id, self._device).mine("op"), frame)

    def foreseen(self) -> Result:
        """What the ledger would say to it now."""
        applied = self._mesh.ledger.apply((self.op,), self._mesh.ledger.time_s, lambda _: None)
        return applied.results[0]

    def check_running(self) -> None:
        """Only a running daemon can show what becomes of the op; raises TemporaryError."""
        folder = self._mesh.folder / self._mesh.config.device.data
        try:
            handle = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            held = False
        else:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                held = False
            except OSError:
                held = True
            os.close(handle)
        if not held:
            raise TemporaryError(
                f"no daemon runs on {folder}, and only a running one can see what is decided; "
                f"start it (demesh run --config {self._path}) or give another --config"
            )

    def carry(self, undecided: str) -> tuple[Result, Mesh]:
        """Publish it until the ledger has an answer; raises DemeshError.

        `undecided` tells the person what may become of it if there is none in time.
        """
        with asyncio.Runner(loop_factory=NamesLoop) as runner:
            return runner.run(self._carry(undecided))

    async def _carry(self, undecided: str) -> tuple[Result, Mesh]:
        config = self._mesh.config
        client_id = f"{identity.text(self._device)}-{os.urandom(6).hex()}"
        ways = deque(
            replace(link, lasting=False) for link in links(self._mesh.folder, config, client_id)
        )
        begun = said = time.monotonic()
        await publish_once(ways, self._publish)
        while time.monotonic() < begun + PATIENCE_S:
            await asyncio.sleep(LOOK_S)
            mesh = read_mesh(self._path)
            result = mesh.ledger.result(self.op.id)
            if result is not None:
                return result, mesh
            if time.monotonic() >= said + AGAIN_S:  # a broker that was restarted may have lost it
                said = time.monotonic()
                ways.rotate(-1)  # or it is one that keeps what it was given to itself
                await publish_once(ways, self._publish)
        raise TemporaryError(
            f"not decided within {PATIENCE_S:.0f} s: too few voters may be up, or this device may "
            f"be cut off; {undecided}"
        )
