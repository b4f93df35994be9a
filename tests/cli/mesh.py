"""A founded mesh on disk with a driver of its own, and the daemon as a process on it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from demesh.storage.keys import write_key
from demesh.wire import identity
from demesh.wire.messages import GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.schema import encode

DRIVER = '''
"""A driver that measures what its options say."""
from demesh.errors import ConfigError
from demesh.ports import Measurement


class Still:
    sample_ms = 200

    def __init__(self, power_w):
        self.power_w = power_w

    def read(self, now):
        return Measurement(self.power_w)

    def actuate(self, command, now):
        pass


def open_still(options, *, folder, now):
    if set(options) - {"power_w"}:
        raise ConfigError("[driver] takes power_w only")
    return Still(options.get("power_w", 0))
'''

BROKEN_COMMAND = """
import rich_but_not_installed


def add(subparsers):
    raise AssertionError
"""


@dataclass(frozen=True, slots=True)
class Board:
    """One device's folder."""

    name: str
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "demesh.toml"


class Mesh:
    """Boards of one owner, each with a folder beside the genesis."""

    def __init__(self, folder: Path, url: str, count: int = 4) -> None:
        self.folder = folder
        self.plugins = folder / "plugins"
        self._install()
        owner = _key("owner")
        owner_id = identity.device_id(bytes(owner.verify_key))
        devices = []
        accounts = [GenesisAccount(owner_id, owner_id, 1, 0)]
        self.boards: list[Board] = []
        for number in range(count):
            name = f"board{number}"
            device, vote = _key(f"{name} device"), _key(f"{name} vote")
            public = bytes(device.verify_key)
            certificate = identity.certify_device(
                owner, name, "meter", public, bytes(vote.verify_key)
            )
            devices.append(GenesisDevice(certificate, 1))
            accounts.append(GenesisAccount(identity.device_id(public), owner_id, 2, 0))
            board = Board(name, folder / name)
            board.folder.mkdir()
            write_key(board.folder / "device.key", device)
            write_key(board.folder / "vote.key", vote)
            self.configure(board, url)
            self.boards.append(board)
        commons = bytes(16)
        body = GenesisBody(
            "street", 1, bytes(8), 1_700_000_000, 1,
            (bytes(owner.verify_key),), ("anna",), tuple(devices),
            (*accounts, GenesisAccount(commons, commons, 3, 0)), commons, 0,
        )  # fmt: skip
        genesis = identity.make_genesis(body, [identity.signer(owner)])
        (folder / "genesis.cbor").write_bytes(encode(genesis))

    def configure(self, board: Board, url: str, extra: str = "wait_s = 2") -> None:
        board.config.write_text(
            f'[device]\nname = "{board.name}"\nclass = "meter"\ndriver = "still"\n'
            f'[driver]\npower_w = 5\n[mesh]\ngenesis = "../genesis.cbor"\n'
            f'[broker]\nurl = "{url}"\n{extra}\n'
        )

    def environment(self) -> dict[str, str]:
        roots = [str(self.plugins), *(root for root in sys.path if root)]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}

    def start(self, board: Board, *words: str) -> subprocess.Popen[str]:
        """The daemon of a board, its standard error in `log.txt`."""
        with (board.folder / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "demesh", "run", "--config", str(board.config), *words],
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def demesh(self, *words: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        return subprocess.run(
            [sys.executable, *python, "-m", "demesh", *words],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def _install(self) -> None:
        facts = self.plugins / "stilldriver-1.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: stilldriver\nVersion: 1\n")
        (facts / "entry_points.txt").write_text(
            "[demesh.drivers]\nstill = stilldriver:open_still\nabsent = absentdriver:open\n"
            "[demesh.commands]\nbroken = brokencommand:add\n"
        )
        (self.plugins / "stilldriver.py").write_text(DRIVER)
        (self.plugins / "brokencommand.py").write_text(BROKEN_COMMAND)
        (self.plugins / "absentdriver.py").write_text("import rich_but_not_installed\n")


def _key(name: str) -> SigningKey:
    return SigningKey(hashlib.blake2b(name.encode(), digest_size=32).digest())
