"""Brokers as `configs/brokers` has them, started from those very files in temporary folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from demesh.wire.topics import VIEWER
from transport.brokers import PROGRAM, BrokerProcess, free_port

KIT = Path(__file__).parents[2] / "configs" / "brokers"
INSTALLED = "/etc/mosquitto/demesh"


@dataclass(frozen=True, slots=True)
class Door:
    """How to get into a broker: its port, and each login's password."""

    port: int
    passwords: Mapping[str, str]
    level: int  # of MQTT: 4 is 3.1.1
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"


def passwords_for(logins: Iterable[str]) -> dict[str, str]:
    """A password for each, and for people."""
    return {login: f"password of {login}" for login in (*logins, VIEWER)}


class Mosquitto:
    """mosquitto with drop-ins of the kit, as Debian's own configuration would include them."""

    def __init__(self, folder: Path, passwords: Mapping[str, str]) -> None:
        if PROGRAM is None:
            pytest.skip("mosquitto is not installed: apt install mosquitto")
        self.folder, self.port = folder, free_port()
        self.door = Door(self.port, passwords, 5)
        self._drop_ins = folder / "conf.d"
        self._drop_ins.mkdir(parents=True)
        (folder / "mosquitto.conf").write_text(
            "user root\n"  # or it gives up the rights to our folder when root runs the tests
            f"persistence true\npersistence_location {folder}/\nlog_dest file {folder}/log\n"
            f"include_dir {self._drop_ins}\n"
        )
        shutil.copy(KIT / "acl", folder / "acl")
        for login, password in passwords.items():
            self.add_login(login, password)
        self.drop_in("mosquitto/demesh.conf", {"listener 1883": f"listener {self.port} 127.0.0.1"})
        self.process = BrokerProcess([PROGRAM, "-c", str(folder / "mosquitto.conf")], self.port)

    def drop_in(self, name: str, changes: Mapping[str, str] | None = None) -> None:
        """Install a file of the kit; `changes` are whole lines, which must be there."""
        text = (KIT / name).read_text("utf-8").replace(INSTALLED, str(self.folder))
        for line, other in (changes or {}).items():
            text, found = re.subn(rf"^{re.escape(line)}$", other, text, flags=re.MULTILINE)
            assert found, f"{name} has no line {line}"
        (self._drop_ins / Path(name).name).write_text(text)

    def add_login(self, login: str, password: str) -> None:
        """As an operator does it."""
        path = self.folder / "passwords"
        create = [] if path.exists() else ["-c"]
        subprocess.run(
            ["mosquitto_passwd", *create, "-b", path, login, password], check=True, timeout=30
        )

    def allow(self, name: str) -> None:
        """Add the lines of a file of the kit to the ACL."""
        with (self.folder / "acl").open("a") as file:
            file.write((KIT / name).read_text("utf-8"))


RABBITMQ = Path("/usr/lib/rabbitmq/bin")


class Rabbit:
    """A RabbitMQ node with folders, a name and an epmd of its own, on the loopback interface."""

    START_S = 90

    def __init__(self, folder: Path) -> None:
        if not (RABBITMQ / "rabbitmq-server").exists():
            pytest.skip("RabbitMQ is not installed: apt install rabbitmq-server")
        self.folder, self.port = folder, free_port()
        text = (KIT / "rabbitmq" / "rabbitmq.conf").read_text("utf-8")
        for old, new in {
            "default = 1883": f"default = 127.0.0.1:{self.port}",
            "/etc/rabbitmq/demesh.json": str(KIT / "rabbitmq" / "demesh.json"),
        }.items():
            assert old in text
            text = text.replace(old, new)
        (folder / "rabbitmq.conf").write_text(text)
        shutil.copy(KIT / "rabbitmq" / "enabled_plugins", folder)
        distribution, epmd = free_port(), free_port()
        self._pid_file = folder / "pid"
        self.environment = {
            **os.environ,
            "PATH": f"{RABBITMQ}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"demesh{self.port}@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(self._pid_file),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until all of it is up."""
        # Its own epmd, as a child of ours: the one that a node starts by itself stays for ever.
        self._epmd = subprocess.Popen(["epmd"], env=self.environment)
        with (self.folder / "out").open("wb") as out:
            self._node = subprocess.Popen(
                ["rabbitmq-server"], env=self.environment, stdout=out, stderr=out
            )
        wait = ("wait", str(self._pid_file), "--timeout", str(self.START_S))
        done = self.ctl(*wait, check=False)
        assert done.returncode == 0, (self.folder / "out").read_text()[-2000:]

    def ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["rabbitmqctl", *words], env=self.environment, capture_output=True, text=True,
            timeout=self.START_S + 10, check=check,
        )  # fmt: skip

    def add(self, login: str, password: str) -> None:
        """As an operator does it."""
        subprocess.run(
            [KIT / "rabbitmq" / "add-device", login],
            env=self.environment, input=password + "\n", text=True, check=True, timeout=60,
        )  # fmt: skip

    def knows(self, login: str) -> bool:
        """Whether there is such a login."""
        return login in self.ctl("-q", "list_users").stdout.split()

    def stop(self) -> None:
        """End the node, then its epmd."""
        for process in (self._node, self._epmd):
            if process is not None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(30)
