"""A founded mesh on disk with a driver of its own, and the daemon as a process on it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from demesh.ledger.state import AccountKind
from demesh.storage.keys import write_key
from demesh.wire import identity
from demesh.wire.messages import GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.schema import encode

DRIVER = '''
"""A driver that measures what its options say; a flow in service moves 1 Wh a sample."""
import json

from demesh.errors import ConfigError
from demesh.ports import Measurement


class Still:
    sample_ms = 100

    def __init__(self, options, registers):
        self.options, self.registers, self.live = options, registers, set()
        self.flows = json.loads(registers.read_text()) if registers.exists() else {}

    def read(self, now):
        for flow in self.live:
            self.flows[flow] = self.flows.get(flow, 0) + 1
        self.registers.write_text(json.dumps(self.flows))
        flows = [(bytes.fromhex(flow), self.flows[flow]) for flow in sorted(self.live)]
        return Measurement(**self.options, flows=tuple(flows))

    def actuate(self, command, now):
        (self.live.add if command.power_w else self.live.discard)(command.flow.hex())


def open_still(options, *, folder, now):
    if set(options) - {"power_w", "demand_w", "supply_w", "stored_wh"}:
        raise ConfigError("[driver] takes power_w, demand_w, supply_w and stored_wh only")
    return Still({"power_w": 0, **options}, folder / "registers.json")
'''

BROKEN_COMMAND = """
import rich_but_not_installed


def add(subparsers):
    raise AssertionError
"""


CREDIT = 1_000_000_000  # micro-credits a board may owe; more than a test can spend

# Sessions of 20 Wh, 1 Wh a sample of 100 ms: an agreement lasts some two seconds.
SELLS = (
    "power_w = 5\nsupply_w = 1000\nstored_wh = 100000",
    "[market.sell]\nprice = 250000\npower_w_max = 1000\nunits_max = 20\n"
    "quantum_ms = 500\nlead = 5000\nlag = 5000\n",
)
BUYS = (
    "power_w = 5\ndemand_w = 1000",
    "[market.buy]\nprice_max = 300000\npower_w_max = 1000\nunits_max = 20\nduration_s = 60\n",
)


@dataclass(frozen=True, slots=True)
class Board:
    """One device's folder."""

    name: str
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "demesh.toml"


class Mesh:
    """Boards that go round their owners, each with a folder beside the genesis."""

    def __init__(
        self, folder: Path, url: str, count: int = 4, owners: tuple[str, ...] = ("anna",)
    ) -> None:
        self.folder, self.url = folder, url
        self.plugins = folder / "plugins"
        self._install()
        (folder / "owners").mkdir()
        signing = [_key(f"owner {name}") for name in owners]
        for name, key in zip(owners, signing, strict=True):
            write_key(self.owner_key(name), key)
        ids = [identity.device_id(bytes(key.verify_key)) for key in signing]
        devices = []
        accounts = [GenesisAccount(id, id, AccountKind.OWNER, 0) for id in ids]
        self.boards: list[Board] = []
        for number in range(count):
            name = f"board{number}"
            device, vote = _key(f"{name} device"), _key(f"{name} vote")
            public = bytes(device.verify_key)
            certificate = identity.certify_device(
                signing[number % len(owners)], name, "meter", public, bytes(vote.verify_key)
            )
            devices.append(GenesisDevice(certificate, 1))
            account = identity.device_id(public)
            owner = ids[number % len(owners)]
            accounts.append(GenesisAccount(account, owner, AccountKind.DEVICE, -CREDIT))
            board = Board(name, folder / name)
            board.folder.mkdir()
            write_key(board.folder / "device.key", device)
            write_key(board.folder / "vote.key", vote)
            self.configure(board, url)
            self.boards.append(board)
        commons = bytes(16)
        body = GenesisBody(
            "street", 1, bytes(8), 1_700_000_000, 1,
            tuple(bytes(key.verify_key) for key in signing), owners, tuple(devices),
            (*accounts, GenesisAccount(commons, commons, AccountKind.COMMONS, 0)), commons, 0,
        )  # fmt: skip
        genesis = identity.make_genesis(body, [identity.signer(key) for key in signing])
        (folder / "genesis.cbor").write_bytes(encode(genesis))

    def owner_key(self, name: str) -> Path:
        """The file with an owner's private key."""
        return self.folder / "owners" / f"{name}.key"

    def trade(self, seller: Board, buyer: Board) -> None:
        """Let one board sell to another, without end."""
        for board, measured, policy in ((seller, *SELLS), (buyer, *BUYS)):
            text = board.config.read_text().replace("power_w = 5", measured)
            board.config.write_text(text + policy)

    def configure(self, board: Board, url: str, extra: str = "wait_s = 2") -> None:
        """`url`: of one broker, or of several with commas between them."""
        title = "[[broker]]" if "," in url else "[broker]"
        brokers = "".join(f'{title}\nurl = "{one}"\n{extra}\n' for one in url.split(","))
        board.config.write_text(
            f'[device]\nname = "{board.name}"\nclass = "meter"\ndriver = "still"\n'
            f'[driver]\npower_w = 5\n[mesh]\ngenesis = "../genesis.cbor"\n{brokers}'
        )

    def environment(self) -> dict[str, str]:
        roots = [str(self.plugins), *(root for root in sys.path if root)]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}

    def start(self, board: Board, file_bytes_max: int | None = None) -> subprocess.Popen[str]:
        """The daemon of a board, its standard error in `log.txt`; a limit acts as a full disk."""
        limit = [] if file_bytes_max is None else ["prlimit", f"--fsize={file_bytes_max}"]
        with (board.folder / "log.txt").open("a") as log:
            return subprocess.Popen(
                [*limit, sys.executable, "-m", "demesh", "run", "--config", str(board.config)],
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
