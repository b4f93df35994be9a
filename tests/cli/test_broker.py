"""`demesh broker`: its flags and its file, accounts, reading again on SIGHUP, and its end."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.papers import Papers, needs_openssl
from broker.rawclient import PATIENCE_S, RawClient, Visitors
from demesh.broker import passwords
from demesh.broker.codec import Connack, Connect, Publish, Suback, Subscribe
from demesh.broker.codes import Code
from demesh.broker.limits import Limits
from demesh.broker.packets import Disconnect, Puback, Wanted
from demesh.broker.settings import BrokerConfig, Endpoint, read_trust
from demesh.broker.tls import lifetime
from demesh.cli.broker import FILES, parse
from demesh.cli.main import main
from demesh.errors import ConfigError
from demesh.wire import identity

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "configs/systemd/demesh-broker.service"
ANALYZE = shutil.which("systemd-analyze")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class Running:
    """`demesh broker` as a process, with what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.urls: list[str] = []

    @property
    def port(self) -> int:
        return int(self.urls[0].rpartition(":")[2])

    async def url(self) -> str:
        assert self.process.stdout is not None
        self.urls.append((await self.process.stdout.readline()).decode().strip())
        return self.urls[-1]

    async def said(self, words: str) -> str:
        """The next line of its log with these words."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.process.stderr.readline()).decode():
                if words in line:
                    return line
        raise AssertionError(f"it ended without a word of {words!r}")

    async def hup(self, words: str) -> str:
        """Have it read its files again; the line that says how it went."""
        self.process.send_signal(signal.SIGHUP)
        return await self.said(words)


@asynccontextmanager
async def broker(*words: str | Path) -> AsyncIterator[Running]:
    """The broker with these flags, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demesh", "broker", *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=ENVIRONMENT,
    )
    running = Running(process)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await running.url()
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()


def account(path: Path, name: str, password: str) -> None:
    """An account with a password that the test knows."""
    with path.open("a") as file:
        file.write(passwords.line(name, passwords.make(password.encode(), os.urandom(12))))
    path.chmod(0o600)


async def login(port: int, name: str, password: str, client_id: str = "") -> RawClient | None:
    """A client that was let in; None if it was refused."""
    client = await Visitors(port).dial()
    client.send(Connect(client_id or name, username=name, password=password.encode()))
    answer = await client.next()
    assert isinstance(answer, Connack)
    if answer.code is Code.SUCCESS:
        return client
    await client.closed()
    return None


def tls_flags(papers: Papers) -> tuple[str | Path, ...]:
    flags = ("--certificate", papers.certificate, "--key", papers.key)
    return (*flags, "--client-ca", papers.authority, "--listen", "mqtts://127.0.0.1:0")


async def show(
    papers: Papers,
    port: int,
    name: str | None,
    code: Code = Code.SUCCESS,
    *,
    client_id: str = "",
    username: str | None = None,
    present: bool | None = None,
) -> RawClient:
    """A client with the certificate of `name`, and this answer to its CONNECT.

    `present`: its session is to last, and whether it was there before.
    """
    async with asyncio.timeout(PATIENCE_S):
        context = papers.context(name)
        client = RawClient(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
        lasting = present is not None
        client.send(Connect(client_id or name or "x", not lasting, username=username))
        await client.expect(Connack(code, bool(present)))
    return client


async def nothing_said(papers: Papers, port: int, name: str | None) -> bool:
    """Whether TLS ends before MQTT begins, with the certificate of `name` or with none."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            streams = await asyncio.open_connection("127.0.0.1", port, ssl=papers.context(name))
            client = RawClient(*streams)
            client.send(Connect("x"))
            return await client.next() is None
    except OSError:  # of TLS 1.3 the client learns it late
        return True


# -- flags and file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--listen", "mqtt://0.0.0.0"], "mqtt://0.0.0.0:1883 can be reached from other machines"),
        (["--listen", "mqtt://[::]:0"], "can be reached from other machines"),
        (["--listen", "mqtts://127.0.0.1"], "speaks TLS: give a certificate"),
        (["--listen", "wss://127.0.0.1"], "speaks TLS: give a certificate"),
        (["--listen", "http://127.0.0.1"], "is no address to listen on"),
        (["--listen", "mqtt://broker.home"], "is no address to listen on"),
        (["--listen", "mqtt://me:pw@127.0.0.1"], "is no address to listen on"),
        (["--listen", "mqtt://127.0.0.1:70000"], "is no address to listen on"),
        (["--listen", "ws://127.0.0.1/other"], "is no address to listen on"),
        (["--listen", "mqtt://127.0.0.1:1", "--listen", "ws://127.0.0.1:1"], "given twice"),
        (["--certificate", "c.pem"], "a certificate and its key are given together"),
        (["--client-ca", "c.pem"], "authorities of clients need TLS"),
        (
            [
                "--certificate",
                "c",
                "--key",
                "k",
                "--client-ca",
                "a",
                "--listen",
                "mqtt://127.0.0.1",
            ],
            "nobody could log in at mqtt://127.0.0.1:1883: certificates are shown under TLS only",
        ),
        (["--acl", "missing"], "missing: rights: cannot be read: No such file"),
        (["--config", "missing"], "missing: cannot be read"),
        (["--config", "x", "--acl", "y"], "--acl beside --config: write it into x"),
        (["--config", "x", "--listen", "y"], "--listen beside --config: write it into x"),
    ],
)
def test_what_does_not_fit_together_is_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", *words, "--check-config"]) == 78
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lisen = []", 'broker.toml:1: lisen is unknown; did you mean "listen"?'),
        ("\nlisten = 7", "broker.toml:2: listen is no list of addresses"),
        ("[limits]\nqueue_max = 1", 'broker.toml:2: [limits] queue_max is unknown; did you mean "'),
        ('[limits]\nqueued_max = "1"', "broker.toml:2: [limits] queued_max = "),
        ("[limits]\nqueued_max = 0", "broker.toml:2: [limits] queued_max = 0 is outside 1.."),
        ("listen = []", "broker.toml:1: listen is empty; leave it out"),
        ("passwords = 3", "broker.toml:1: passwords = 3 is not text"),
        ("\nlisten = x", "broker.toml:2: not TOML"),
    ],
)
def test_a_mistake_in_the_file_names_its_line(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broker.toml"
    path.write_text(text)
    assert main(["broker", "--config", str(path), "--check-config"]) == 78
    assert says in capsys.readouterr().err


def test_the_file_says_all_that_flags_say_and_the_limits(tmp_path: Path) -> None:
    table = {
        "listen": ["mqtt://localhost", "ws://[::1]:9001"],
        "passwords": "pw",
        "acl": "/etc/acl",
        "data": "data",
        "limits": {"queued_max": 7},
    }
    config = parse(table, "f", tmp_path)
    assert list(map(str, config.listen)) == ["mqtt://127.0.0.1:1883", "ws://[::1]:9001/mqtt"]
    assert (config.passwords, config.acl) == (tmp_path / "pw", Path("/etc/acl"))
    assert (config.data, config.limits.queued_max) == (tmp_path / "data", 7)
    assert str(parse({}, "f", tmp_path).listen[0]) == "mqtt://127.0.0.1:1883"


@needs_openssl
def test_a_check_reads_every_file_and_listens_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    papers = Papers(tmp_path / "papers")
    account(tmp_path / "pw", "dev", "x")
    words = ["broker", "--check-config", "--passwords", str(tmp_path / "pw")]
    words += ["--listen", "mqtt://0.0.0.0:1883", "--listen", "mqtts://0.0.0.0"]
    words += ["--certificate", str(papers.certificate), "--key", str(papers.key)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "passwords can be read on the way to mqtt://0.0.0.0:1883; mqtts:// hides them" in out
    assert "good; would listen on mqtt://0.0.0.0:1883, mqtts://0.0.0.0:8883" in out
    papers.key.chmod(0o604)
    assert main(words) == 77
    papers.key.chmod(0o640)
    (tmp_path / "pw").chmod(0o644)
    assert main(words) == 77
    (tmp_path / "pw").chmod(0o600)


def test_a_file_of_no_accounts_is_good_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pw"
    path.touch(0o600)
    words = ["broker", "--check-config", "--passwords", str(path)]
    assert main(words) == 0
    assert f"{path}: no accounts in it, so nobody is let in; " in capsys.readouterr().out
    account(path, "dev", "x")
    assert main(words) == 0
    assert "no accounts" not in capsys.readouterr().out


@needs_openssl
def test_a_certificate_outside_its_time_is_refused_and_one_near_its_end_is_told(
    tmp_path: Path,
) -> None:
    papers = Papers(tmp_path)
    listen = (Endpoint(scheme="mqtts"),)
    config = BrokerConfig(listen, certificate=papers.certificate, key=papers.key)
    first, last = lifetime(papers.certificate)
    day = 86_400
    with pytest.raises(ConfigError, match=r"localhost\.pem: expired 2 days ago; renew it"):
        read_trust(config, last + 2 * day)
    with pytest.raises(
        ConfigError, match=r"localhost\.pem: valid in 3 hours only; is this machine's"
    ):
        read_trust(config, first - 3 * 3600)
    assert read_trust(config, last - 15 * day).warnings == ()
    (warning,) = read_trust(config, last - 5 * day).warnings
    assert "expires in 5 days; renew it, then send SIGHUP" in warning


def test_the_example_says_what_holds_without_it_and_every_line_of_it_is_good(
    tmp_path: Path,
) -> None:
    text = (ROOT / "configs/broker.toml").read_text()
    assert parse(tomllib.loads(text), "f", tmp_path) == parse({}, "f", tmp_path)
    lines = [re.sub(r"^# (?=\S+ = |\[)", "", row) for row in text.splitlines()]
    table = tomllib.loads("\n".join(row for row in lines if not row.startswith('listen = ["mqtt:')))
    config = parse(table, "f", tmp_path)
    assert len(config.listen) == 3
    assert config.limits == Limits()
    assert all(getattr(config, name) for name in FILES)


def test_the_unit_starts_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = UNIT.read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=\S+/demesh (.*)$", text, re.MULTILINE)
    assert main([*command.split(), "--check-config"]) == 77  # its files are not here
    assert "${CREDENTIALS_DIRECTORY}/passwords: passwords: cannot be" in capsys.readouterr().err
    for number in ("77", "78"):
        assert number in re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)[0]


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_the_unit_leaves_the_broker_little_to_do_harm_with() -> None:
    command = [ANALYZE, "security", "--offline=yes", "--no-pager", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]  # 2.0 of 10 at most


# -- accounts -------------------------------------------------------------------------------------


def test_an_account_is_made_shown_listed_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pw"
    flags = ["--passwords", str(path)]
    made = {}
    for name in ("one", "two"):
        assert main(["broker", "account", "add", name, *flags]) == 0
        made[name] = capsys.readouterr().out.strip()
    assert path.stat().st_mode & 0o777 == 0o600
    known = passwords.parse(path.read_text(), "pw")
    assert all(known.fits(name, password.encode()) for name, password in made.items())
    assert len(made["one"]) >= 32 and made["one"] != made["two"]
    assert main(["broker", "account", "list", *flags]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert main(["broker", "account", "add", "one", *flags]) == 78
    assert "one has an account; --renew" in capsys.readouterr().err
    assert main(["broker", "account", "add", "one", "--renew", *flags]) == 0
    again = capsys.readouterr().out.strip()
    known = passwords.parse(path.read_text(), "pw")
    assert known.fits("one", again.encode()) and not known.fits("one", made["one"].encode())
    assert main(["broker", "account", "remove", "one", *flags]) == 0
    assert main(["broker", "account", "remove", "one", *flags]) == 78
    assert passwords.parse(path.read_text(), "pw").names() == ("two",)


def test_a_password_goes_into_a_file_for_the_device_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = tmp_path / "pw", tmp_path / "dev.password"
    words = ["broker", "account", "add", "dev", "-o", str(output), "--passwords", str(path)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"dev: password in {output}\n"
    assert output.stat().st_mode & 0o777 == 0o600
    password = output.read_text().strip()
    assert passwords.parse(path.read_text(), "pw").fits("dev", password.encode())
    before = path.read_bytes()
    assert main([*words, "--renew"]) == 77
    assert "there is a file already" in capsys.readouterr().err
    assert (output.read_text().strip(), path.read_bytes()) == (password, before)


@pytest.mark.parametrize("words", [["list"], ["remove", "one"]])
def test_accounts_of_a_file_that_is_not_there_are_not_told_as_none(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pw"
    assert main(["broker", "account", *words, "--passwords", str(path)]) == 77
    assert capsys.readouterr() == (
        "", f"demesh: {path}: passwords: cannot be read: No such file or directory\n"
    )  # fmt: skip


def test_a_file_without_a_last_line_end_takes_another_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pw"
    account(path, "one", "x")
    path.write_text("# mine\n" + path.read_text().rstrip("\n"))
    assert main(["broker", "account", "add", "two", "--passwords", str(path)]) == 0
    word = capsys.readouterr().out.strip()
    known = passwords.parse(path.read_text(), "pw")
    assert known.fits("one", b"x") and known.fits("two", word.encode())
    assert path.read_text().startswith("# mine\n")


def test_an_account_that_cannot_be_written_leaves_no_password_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = tmp_path / "pw", tmp_path / "dev.password"
    (tmp_path / ".pw.new").mkdir()  # where the new file would be written
    words = ["broker", "account", "add", "dev", "-o", str(output), "--passwords", str(path)]
    assert main(words) == 77
    assert "passwords: cannot be written" in capsys.readouterr().err
    assert not output.exists() and not path.exists()


@pytest.mark.parametrize("name", ["", "a/b", "+", "#x", "a:b", " a", "$a", "a\nb"])
def test_a_name_that_would_reach_into_others_topics_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pw"
    assert main(["broker", "account", "add", name, "--passwords", str(path)]) == 78
    assert not path.exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_accounts_made_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "pw"
    command = [sys.executable, "-m", "demesh", "broker", "account", "add"]
    names = [f"dev{number}" for number in range(6)]
    started = [
        subprocess.Popen(
            [*command, name, "--passwords", str(path)],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
        )
        for name in names
    ]
    assert [process.wait(PATIENCE_S * 3) for process in started] == [0] * len(names)
    assert sorted(passwords.parse(path.read_text(), "pw").names()) == names


# -- running --------------------------------------------------------------------------------------


async def test_it_says_where_it_listens_and_ends_by_a_signal() -> None:
    async with broker("--listen", "mqtt://127.0.0.1:0", "--listen", "ws://[::1]:0") as running:
        assert running.urls[0].startswith("mqtt://127.0.0.1:")
        assert (await running.url()).startswith("ws://[::1]:")
        await Visitors(running.port).connect("a")
        running.process.send_signal(signal.SIGTERM)
        assert await running.process.wait() == 0


async def test_a_device_speaks_in_its_own_name_only_where_nothing_else_is_said(
    tmp_path: Path,
) -> None:
    me, other = (identity.text(bytes((n,)) * 16) for n in (1, 2))
    account(tmp_path / "pw", me, "mine")
    account(tmp_path / "pw", other, "others")
    flags = ("--listen", "mqtt://127.0.0.1:0", "--passwords", tmp_path / "pw")
    async with broker(*flags) as running:
        assert await login(running.port, me, "others") is None
        assert await login(running.port, "nobody", "mine") is None
        mine = await login(running.port, me, "mine")
        its = await login(running.port, other, "others")
        assert mine is not None and its is not None
        await mine.subscribe(("demesh/1/m/vote/+", 0), (f"demesh/1/m/to/{me}/+", 0))
        mine.send(Subscribe(9, (Wanted(f"demesh/1/m/to/{other}/+"), Wanted("#"))))
        await mine.expect(Suback(9, (Code.UNSPECIFIED, Code.UNSPECIFIED)))
        topics = [
            f"demesh/1/m/vote/{other}",
            f"demesh/1/m/vote/{me}",
            f"demesh/1/m/to/{me}/{other}",
        ]
        for number, topic in enumerate(topics, 1):
            its.send(Publish(topic, b"x", 1, packet_id=number))
            await its.expect(Puback(number))
        heard = [message.topic for message in await mine.messages()]
        assert heard == [topics[0], topics[2]]
        assert f"{me!r}" in await running.said("a wrong user name or password")


async def test_sighup_lets_in_and_shuts_out_and_keeps_all_if_one_file_is_bad(
    tmp_path: Path,
) -> None:
    path, acl = tmp_path / "pw", tmp_path / "acl"
    account(path, "old", "a")
    account(path, "staying", "b")
    acl.write_text("topic read nothing\npattern readwrite of/%u\n")
    flags = ("--listen", "mqtt://127.0.0.1:0", "--passwords", path, "--acl", acl)
    async with broker(*flags) as running:
        old = await login(running.port, "old", "a")
        staying = await login(running.port, "staying", "b")
        assert old is not None and staying is not None
        await staying.subscribe(("of/staying", 0))
        good = path.read_text()
        path.write_text(good.replace("old:$7", "old:$9"))
        assert f"{path}:1:" in await running.hup("nothing was read again")
        acl.write_text("topc read a\n")
        path.write_text(good)
        account(path, "new", "c")
        assert f"{acl}:1:" in await running.hup("nothing was read again")
        assert await login(running.port, "new", "c") is None
        await old.nothing()
        acl.write_text("pattern readwrite now/%u\n")
        path.write_text("".join(row for row in path.open() if not row.startswith("old:")))
        await running.hup("are read again")
        new = await login(running.port, "new", "c")
        assert new is not None
        await new.subscribe(("now/new", 0))
        await old.closed()
        assert await login(running.port, "old", "a") is None
        staying.send(Subscribe(9, (Wanted("of/staying"),)))
        await staying.expect(Suback(9, (Code.UNSPECIFIED,)))


@needs_openssl
async def test_a_certificate_is_a_login_and_a_new_one_is_taken_on_sighup(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "papers")
    me = identity.text(bytes(16))
    async with broker(*tls_flags(papers)) as running:
        client = await show(papers, running.port, me, client_id=f"{me}-one")
        (await show(papers, running.port, me, username=me)).abort()
        await show(papers, running.port, me, Code.BAD_LOGIN, username="another")
        assert await nothing_said(papers, running.port, None)
        client.send(Subscribe(9, (Wanted("#"), Wanted("demesh/1/m/vote/+"))))
        await client.expect(Suback(9, (Code.UNSPECIFIED, Code.SUCCESS)))
        papers.authority.rename(tmp_path / "away")
        await running.hup("nothing was read again")
        (tmp_path / "away").rename(papers.authority)
        papers.certificate.write_bytes(
            papers.issue("localhost", "subjectAltName=IP:127.0.0.1")[0].read_bytes()
        )
        await running.hup("are read again")
        (await show(papers, running.port, me, client_id=f"{me}-two")).abort()
        await show(papers, running.port, me, Code.NOT_AUTHORIZED, client_id="another")
        await client.nothing()  # its certificate is as good as it was


@needs_openssl
def test_whose_password_is_taken_away_is_not_known_any_more_though_certificates_are_logins_too(
    tmp_path: Path,
) -> None:
    papers, path = Papers(tmp_path / "papers"), tmp_path / "pw"
    config = BrokerConfig(
        (Endpoint(scheme="mqtts"),),
        passwords=path,
        certificate=papers.certificate,
        key=papers.key,
        client_ca=papers.authority,
    )
    now_s = int(time.time())
    account(path, "old", "x")
    before = read_trust(config, now_s)
    assert before.access.knows("old")
    path.write_text("")
    account(path, "new", "x")
    after = read_trust(config, now_s, before)
    assert [after.access.knows(name) for name in ("old", "new", "by certificate")] == [0, 1, 1]


@needs_openssl
async def test_a_device_whose_certificate_is_revoked_is_shut_out_and_the_others_come_back(
    tmp_path: Path,
) -> None:
    papers = Papers(tmp_path / "papers")
    async with broker(*tls_flags(papers)) as running:
        good, bad, away = [
            await show(papers, running.port, name, present=False)
            for name in ("good", "bad", "away")
        ]
        away.send(Disconnect())
        await away.closed()
        papers.authority.write_bytes(papers.revoked("bad").read_bytes())
        await running.hup("are read again")
        await bad.closed()
        await good.closed()
        for name in ("good", "away"):
            await (await show(papers, running.port, name, present=True)).nothing()
        assert await nothing_said(papers, running.port, "bad")
