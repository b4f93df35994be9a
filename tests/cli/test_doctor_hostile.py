"""The doctor at brokers that lie, talk without end, answer nothing or speak no MQTT."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest

from demesh.broker.codec import (
    Code,
    Connack,
    Connect,
    Decoder,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
)
from demesh.cli import probing
from demesh.cli.doctor import _show
from demesh.cli.facts import Facts, Stage
from demesh.cli.probing import Device, crossings, examine
from demesh.cli.verdicts import Finding, Grade
from demesh.transport.client import Link

Say = Callable[[bytes], None]
Answer = Callable[[Packet, Say, int], None]

DEVICE = Device(bytes(16), bytes(32))
STATUS = "$SYS/broker/#"


def polite(packet: Packet, say: Say, level: int) -> None:
    """What any broker answers."""
    match packet:
        case Connect():
            say(encode(Connack(), level))
        case Subscribe(packet_id, filters):
            say(encode(Suback(packet_id, (Code.GRANTED_1,) * len(filters)), level))
        case Publish(qos=1, packet_id=packet_id):
            say(encode(Puback(packet_id), level))
        case Pingreq():
            say(encode(Pingresp(), level))


def after(topic: str, *data: bytes) -> Answer:
    """Polite, and says this to who subscribes to the topic."""

    def answer(packet: Packet, say: Say, level: int) -> None:
        polite(packet, say, level)
        if isinstance(packet, Subscribe) and packet.filters[0].pattern == topic:
            for one in data:
                say(one)

    return answer


def status(topic: str, payload: bytes) -> Answer:
    return after(STATUS, encode(Publish(f"$SYS/broker/{topic}", payload), 5))


@contextmanager
def broker(answer: Answer) -> Iterator[Link]:
    """One on loopback while the block runs, and the way there; all hear all that is published."""
    listeners: list[tuple[Say, int]] = []

    def serve(line: socket.socket) -> None:
        decoder = Decoder(10**6)
        with suppress(OSError), closing(line):
            while data := line.recv(65_536):
                for packet in decoder.feed(data):
                    if not isinstance(packet, Packet):
                        return
                    answer(packet, line.sendall, decoder.level)
                    if isinstance(packet, Subscribe):
                        listeners.append((line.sendall, decoder.level))
                    elif isinstance(packet, Publish):
                        tell(packet)

    def tell(packet: Publish) -> None:
        for say, level in listeners:
            with suppress(OSError):
                say(encode(Publish(packet.topic, packet.payload), level))

    def listen() -> None:
        with suppress(OSError):
            while True:
                line, _ = server.accept()
                threading.Thread(target=serve, args=(line,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=listen, daemon=True).start()
        yield Link("127.0.0.1", port, f"mqtt://127.0.0.1:{port}", "device", ())
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, less in (
        ("QUIET_S", 0.05),
        ("TALK_S", 0.5),
        ("QUEUE_MESSAGES", 0),
        ("EXAMINE_S", 20.0),
    ):
        monkeypatch.setattr(probing, name, less)


def looked_at(answer: Answer) -> Facts:
    with broker(answer) as link:
        return examine(link, DEVICE)


@pytest.mark.parametrize(
    "number",
    ["²".encode(), b"9" * 5000, b"-1", b"\xff"],
    ids=["raised", "long", "negative", "no text"],
)
def test_what_looks_like_a_number_and_is_none_is_left_out(number: bytes) -> None:
    facts = looked_at(status("clients/disconnected", number))
    assert facts.numbers == {} and facts.failed is None


def test_a_topic_that_is_no_text_is_nobodys() -> None:
    assert looked_at(after(STATUS, b"\x30\x06\x00\x02\xff\xfe\x00x")).failed is None


def test_a_broker_that_never_stops_talking_is_heard_for_so_long() -> None:
    stop = threading.Event()

    def endless(packet: Packet, say: Say, level: int) -> None:
        polite(packet, say, level)
        if isinstance(packet, Subscribe):
            word = encode(Publish("$SYS/broker/x", b"1"), level)

            def talk() -> None:
                with suppress(OSError):
                    while not stop.wait(0.01):
                        say(word)

            threading.Thread(target=talk, daemon=True).start()

    assert looked_at(endless).failed is None
    stop.set()


def test_a_broker_whose_welcome_takes_hours_to_read_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half a megabyte of user properties, of which it copies the rest for each."""
    monkeypatch.setattr(probing, "EXAMINE_S", 1.0)
    many = b"\x26\x00\x00\x00\x00" * 100_000
    size = bytes((len(many) & 0x7F | 0x80, len(many) >> 7 & 0x7F | 0x80, len(many) >> 14))
    whole = len(many) + 2 + len(size)
    head = bytes((0x20, whole & 0x7F | 0x80, whole >> 7 & 0x7F | 0x80, whole >> 14))

    def wordy(packet: Packet, say: Say, level: int) -> None:
        say(head + b"\x00\x00" + size + many)

    facts = looked_at(wordy)
    assert facts.failed is Stage.TCP and "keeps everybody waiting" in facts.failure


def test_a_broker_that_acknowledges_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "EXAMINE_S", 1.0)

    def mute(packet: Packet, say: Say, level: int) -> None:
        if not isinstance(packet, Publish):
            polite(packet, say, level)

    facts = looked_at(mute)
    assert facts.failed is Stage.TCP and "keeps everybody waiting" in facts.failure


def test_brokers_that_are_gone_meanwhile_are_not_compared() -> None:
    def gone(packet: Packet, say: Say, level: int) -> None:
        raise ConnectionError

    with broker(gone) as one, broker(polite) as two:
        assert crossings([(one, 5), (two, 5)], DEVICE) == []


def test_what_a_broker_says_of_itself_does_nothing_to_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _show([Finding(Grade.OK, "login", "mosquitto \x1b]0;owned\x07\x9b2J"), _nothing()])
    printed = capsys.readouterr().out
    assert "mosquitto ?]0;owned??2J" in printed
    assert all(letter.isprintable() for line in printed.splitlines() for letter in line)


def _nothing() -> Finding:
    return replace(Finding(Grade.OK, "tls", ""), text=" ")
