"""Accounts and rights in mosquitto's file forms: ours and mosquitto's verdicts are the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.rawclient import Visitors
from demesh.broker import files, passwords, rights
from demesh.broker.access import ANYBODY
from demesh.broker.accounts import Accounts
from demesh.broker.codec import Puback, Publish
from demesh.broker.topics import matches
from demesh.errors import ConfigError, KeyFileError
from transport.brokers import mosquitto

PASSWD = shutil.which("mosquitto_passwd")

# -- passwords ------------------------------------------------------------------------------------

# Made by mosquitto_passwd 2.0.11; the password is "secret" and the name.
MADE = """\
a:$7$101$JhlRqQLwD0cVcVSa$1gzo/V75E8SZXICe/Ly4mu19rGmEmJzhm5BnfGxdgYhAFvEJCjU3zQu0oTth88uH4Yao0BXn/VzPQZGdSGNo9A==
# a comment

b:$7$101$P6KyJUxybkfjC0cU$3MXOPx/rUwAQ+Ml+3lCJBt9MkUnuO/JbMLk1ECc2040hp4HeJdsSfMqW0QsOwapaZ13b+XH8HRTqIRIU/xZgFw==
"""


def test_the_passwords_of_mosquittos_file_fit_and_no_others() -> None:
    accounts = passwords.parse(MADE, "f")
    assert accounts.names() == ("a", "b")
    assert accounts.fits("a", b"secreta")
    assert accounts.fits("b", b"secretb")
    for name, password in (("a", b"secretb"), ("a", b""), ("a", b"secreta "), ("c", b"secreta")):
        assert not accounts.fits(name, password)


def test_a_password_made_here_fits_and_its_line_reads_back() -> None:
    secret = passwords.make(b"pass", bytes(12))
    again = passwords.parse(passwords.line("name", secret), "f")
    assert again.fits("name", b"pass")
    assert not again.fits("name", b"Pass")


@pytest.mark.parametrize(
    "bad",
    [
        "name",
        "name:",
        "name:plain",
        "name:$5$AAAA$AAAA",
        "name:$7$101$AAAA",
        "name:$7$0$AAAA$AAAA",
        "name:$7$101$AAAA$AAAA",
        "name:$7$101$AAAA$!!!!",
        "name:$7$-1$AAAA$AAAA",
        "name:$7$4001$JhlRqQLwD0cVcVSa$" + MADE.partition("Sa$")[2].partition("\n")[0],
        ":$7$101$AAAA$AAAA",
        "a/b" + MADE.partition("\n")[0][1:],
        "a+" + MADE.partition("\n")[0][1:],
        "$a" + MADE.partition("\n")[0][1:],
        MADE.partition("\n")[0],
    ],
)
def test_a_line_that_is_no_account_is_named_by_file_and_line(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"^the/file:5: ") as caught:
        passwords.parse(f"{MADE}{bad}\n", "the/file")
    assert "\n" not in str(caught.value)


def test_a_password_that_takes_long_to_check_is_refused_with_what_to_do() -> None:
    costly = MADE.replace("a:$7$101$", "a:$7$100000$")
    with pytest.raises(ConfigError, match=r"^f:1: .* 100000 iterations, .* at most 4000: .*-I 101"):
        passwords.parse(costly, "f")
    assert "a" in passwords.parse(MADE.replace("a:$7$101$", "a:$7$4000$"), "f")


def test_an_unknown_name_costs_as_many_rounds_as_a_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds: list[int] = []
    real = passwords.hashlib.pbkdf2_hmac

    def counted(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        rounds.append(iterations)
        return real(name, password, salt, iterations)

    quick, slow = (passwords.make(b"p", bytes(12)) for _ in range(2))
    slow = passwords.Secret(2000, slow.salt, real("sha512", b"p", slow.salt, 2000))
    accounts = passwords.Passwords({"quick": quick, "slow": slow})
    monkeypatch.setattr(passwords.hashlib, "pbkdf2_hmac", counted)
    for name in ("quick", "slow", "nobody"):
        rounds.clear()
        assert accounts.fits(name, b"p") is (name != "nobody")
        assert sum(rounds) == 2000


@pytest.mark.skipif(PASSWD is None, reason="mosquitto_passwd is not installed")
@pytest.mark.parametrize("form", ["sha512", "sha512-pbkdf2"])
def test_files_made_by_mosquitto_passwd_are_accepted(tmp_path: Path, form: str) -> None:
    path = tmp_path / "passwords"
    for name in ("first", "second one"):
        create = [] if path.exists() else ["-c"]
        command = [PASSWD, "-H", form, *create, "-b", str(path), name, f"of {name}"]
        subprocess.run(command, check=True, capture_output=True)
    accounts = passwords.parse(path.read_text(), "f")
    assert accounts.names() == ("first", "second one")
    assert all(accounts.fits(name, f"of {name}".encode()) for name in accounts.names())
    assert not accounts.fits("first", b"of second one")


# -- rights ---------------------------------------------------------------------------------------

ACL = """\
# what those without a name may do
topic read public/#
topic deny public/secret

user ann
topic write mine/ann
topic readwrite both/+/x
topic deny both/no/x
topic read spaced topic/+
topic everything/#

user bob
topic deny public/#
topic readwrite $odd/#
topic read #

user ann
topic read later/ann

pattern write by/%u
pattern readwrite client/%c/#
pattern read pre%uand%c/x
pattern deny client/+/closed
pattern read all/+
"""

TOPICS = [
    *("public", "public/a", "public/secret", "public/a/b", "mine/ann", "mine/bob", "both/a/x"),
    *("both/no/x", "both/a/y", "spaced topic/a", "everything", "everything/a/b", "later/ann"),
    *("$odd/a", "by/ann", "by/bob", "by/", "by/%u", "client/ann-1/a", "client/ann-1", "client/x/a"),
    *("client/ann-1/closed", "client/bob-1/b/c", "preannandann-1/x", "all/a", "all/a/b", "other"),
]


async def test_mosquitto_and_we_say_the_same_of_every_user_and_topic(tmp_path: Path) -> None:
    accounts = Accounts(None, rights.parse(ACL, "acl"))
    ours = {}
    for user in ("ann", "bob", "eve", ""):
        client = f"{user}-1"
        for topic in TOPICS:
            ours[user, topic, "write"] = accounts.may_write(user, client, topic)
            ours[user, topic, "read"] = accounts.may_read(user, client, topic)
    secret = passwords.make(b"pass", bytes(range(12)))  # ours, for mosquitto to accept
    lines = [passwords.line(name, secret) for name in ("ann", "bob", "eve", "all")]
    (tmp_path / "passwords").write_text("".join(lines))
    (tmp_path / "acl").write_text(ACL + "user all\ntopic readwrite #\ntopic readwrite $odd/#\n")
    broker = mosquitto(
        tmp_path,
        f"allow_anonymous true\npassword_file {tmp_path}/passwords\nacl_file {tmp_path}/acl\n",
    )
    broker.start()
    try:
        theirs = await _said_by(broker.port, ("ann", "bob", "eve", ""))
    finally:
        broker.stop()
    assert {key for key in ours if ours[key] != theirs[key]} == set()
    assert 20 < sum(ours.values()) < len(ours) - 20


async def _said_by(port: int, users: tuple[str, ...]) -> dict[tuple[str, str, str], bool]:
    """What a broker lets each user do with each topic: seen by one who may do everything."""
    visitors, said = Visitors(port), {}
    login = {"password": b"pass"}
    witness = await visitors.connect("all-1", username="all", **login)
    await witness.subscribe(("#", 0), ("$odd/#", 0))
    for user in users:
        name = {"username": user, **login} if user else {}
        client = await visitors.connect(f"{user}-1", **name)
        await client.subscribe(("#", 0), ("$odd/#", 0))
        for doer, seer, right in ((client, witness, "write"), (witness, client, "read")):
            await seer.messages()
            for number, topic in enumerate(TOPICS, 1):
                doer.send(Publish(topic, b"x", 1, packet_id=number))
            acks = 0
            while acks < len(TOPICS):
                acks += isinstance(await doer.next(), Puback)
            heard = {message.topic for message in await seer.messages()}
            said |= {(user, topic, right): topic in heard for topic in TOPICS}
        client.abort()
    visitors.leave()
    return said


def test_names_that_are_wildcards_or_levels_reach_nothing_by_pattern() -> None:
    given = rights.parse("pattern readwrite by/%u/#\npattern readwrite of/%c\n", "acl")
    assert given.may_write("ann", "c", "by/ann/x")
    for odd in ("+", "#", "ann/x", "a+b", "/"):
        assert not given.may_write(odd, "c", f"by/{odd}/x")
        assert not given.may_read(odd, "c", "by/+/x")
        assert not given.may_write("ann", odd, f"of/{odd}")
        assert not given.may_write("ann", odd, "by/ann/x")


def test_a_name_that_looks_like_a_place_stays_a_name() -> None:
    given = rights.parse("pattern write %u/%c\n", "acl")
    assert given.may_write("%c", "%u", "%c/%u")
    assert not given.may_write("%c", "x", "x/x")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("topics read a", "no line of an ACL file"),
        ("topic", "no line of an ACL file"),
        ("user", "no line of an ACL file"),
        ("topic reads a", "'reads' is no right"),
        ("topic a b", "'a' is no right"),
        ("topic read a/#/b", "no topic filter"),
        ("pattern write a+", "no topic filter"),
    ],
)
def test_a_line_that_gives_no_right_is_named_by_file_and_line(bad: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^the/acl:3: .*{says}") as caught:
        rights.parse(f"user a\ntopic b\n{bad}\n", "the/acl")
    assert "\n" not in str(caught.value)


LEVELS = st.sampled_from(["a", "b", "$a", ""])
NAMES = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.tuples(
    st.lists(st.sampled_from(["a", "b", "$a", "", "+"]), max_size=3),
    st.sampled_from([["#"], ["a"], ["+"], ["b", "#"]]),
).map(lambda parts: "/".join([*parts[0], *parts[1]]))


@given(FILTERS, FILTERS, st.lists(NAMES, max_size=30))
def test_a_filter_within_another_brings_nothing_else(
    inner: str, outer: str, topics: list[str]
) -> None:
    found = [topic for topic in topics if matches(inner, topic)]
    if rights.within(inner, outer):
        assert all(matches(outer, topic) for topic in found)
    if not rights.overlap(inner, outer):
        assert not any(matches(outer, topic) for topic in found)


def _all_names() -> list[str]:
    names, rows = [], [[level] for level in ("a", "b", "$a", "", "z")]
    for _ in range(4):
        names += rows
        rows = [[*row, level] for row in rows for level in ("a", "b", "$a", "", "z")]
    return ["/".join(name) for name in names]  # with "", which is no topic but does no harm


NAMES_TO_4 = _all_names()


@given(FILTERS, FILTERS)
def test_within_and_overlap_say_yes_wherever_it_is_true(inner: str, outer: str) -> None:
    """Filters of up to four levels, and all names of as many, with a level no filter knows."""
    found = [topic for topic in NAMES_TO_4 if matches(inner, topic)]
    if found and inner.count("/") < 4 and outer.count("/") < 4:
        held = [matches(outer, topic) for topic in found]
        assert rights.overlap(inner, outer) is any(held)
        if not (inner.endswith("#") and all(held)):  # deeper names than these are missing
            assert rights.within(inner, outer) is all(held)


def test_a_subscription_is_allowed_if_all_that_it_brings_is() -> None:
    given = rights.parse(
        "topic read a/#\ntopic deny a/secret/+\ntopic read b/+\ntopic read b/x/y\n", "acl"
    )
    for pattern in ("a", "a/b", "a/b/#", "a/secret", "b/+", "b/x", "b/x/y"):
        assert given.may_read(ANYBODY, "", pattern), pattern
    for pattern in ("#", "a/#", "a/+/x", "a/secret/#", "+/secret/x", "b/#", "+/x", "$SYS/a"):
        assert not given.may_read(ANYBODY, "", pattern), pattern


# -- logins ---------------------------------------------------------------------------------------


def test_who_may_log_in_follows_from_what_there_is() -> None:
    known = passwords.parse(MADE, "f")
    open_to_all = Accounts()
    assert open_to_all.login("ann", b"x", None) == ANYBODY
    assert open_to_all.login(None, None, None) == ANYBODY
    by_password = Accounts(known)
    assert by_password.login("a", b"secreta", None) == "a"
    for wrong in ((None, None), ("a", None), ("a", b"no"), ("", b"")):
        assert by_password.login(*wrong, None) is None
    assert by_password.login("a", b"no", "a") is None  # nobody asked for a certificate
    by_paper = Accounts(by_certificate=True)
    assert by_paper.login(None, None, "dev") == "dev"
    assert by_paper.login("dev", b"ignored", "dev") == "dev"
    assert by_paper.login("a", b"secreta", "dev") is None
    assert by_paper.login(None, None, None) is None
    assert by_paper.login("a", b"secreta", None) is None
    assert by_paper.login(None, None, "") is None
    both = Accounts(known, by_certificate=True)
    assert both.login("a", b"secreta", None) == "a"
    assert both.login(None, None, "dev") == "dev"
    assert both.login("a", b"secreta", "dev") is None


def test_a_name_and_its_numbers_are_client_ids_of_that_account_alone() -> None:
    known = Accounts(passwords.parse(MADE, "f"))
    for user, client_id in (("a", "a"), ("a", "a-2"), ("b", "a-0f6c"), ("b", "ab"), ("b", "c-2")):
        assert known.may_connect(user, client_id)
    for client_id in ("a", "a-2", "a-12"):
        assert not known.may_connect("b", client_id)


def test_with_certificates_a_client_id_begins_with_the_name_of_its_user() -> None:
    for passwords_too in (None, passwords.parse(MADE, "f")):
        known = Accounts(passwords_too, by_certificate=True)
        for client_id in ("dev2", "dev2-2", "dev2-0f6c"):
            assert known.may_connect("dev2", client_id)
            assert not known.may_connect("dev1", client_id)
        for client_id in ("dev", "dev12", "-dev1", ""):
            assert not known.may_connect("dev1", client_id)


def test_who_is_known_is_who_could_log_in_again() -> None:
    known = passwords.parse(MADE, "f")
    assert Accounts().knows(ANYBODY)
    assert not Accounts().knows("a")
    assert Accounts(known).knows("a")
    assert not Accounts(known).knows(ANYBODY)
    assert not Accounts(known).knows("dev")
    assert Accounts(known, by_certificate=True).knows("dev")
    assert not Accounts(by_certificate=True).knows(ANYBODY)
    assert not Accounts(known, by_certificate=True, removed=frozenset({"dev"})).knows("dev")


# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    files.replace(path, b"one")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o600)
    path.chmod(0o640)
    with path.open("rb") as before:
        files.replace(path, b"two")
        assert before.read() == b"one"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o640)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]
    (tmp_path / "link").symlink_to(path)
    files.replace(tmp_path / "link", b"three")
    assert (path.read_bytes(), (tmp_path / "link").is_symlink()) == (b"three", True)


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o601])
def test_a_secret_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600"):
        files.read(path, "passwords", private=True)
    path.chmod(0o640)
    assert files.read(path, "passwords", private=True) == b"x"


def test_a_file_that_is_none_or_too_large_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        files.read(tmp_path / "f", "rights")
    os.mkfifo(tmp_path / "pipe")  # a plain open would wait for a writer
    with pytest.raises(ConfigError, match="not a file"):
        files.read(tmp_path / "pipe", "rights")
    (tmp_path / "f").write_bytes(bytes(files.FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="larger than"):
        files.read(tmp_path / "f", "rights")
    (tmp_path / "f").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        files.read_text(tmp_path / "f", "rights")
