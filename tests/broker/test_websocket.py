"""The WebSocket layer, byte by byte; expected bytes are those of RFC 6455."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.webclient import masked_frame
from demesh.broker.layers import CLOSED
from demesh.broker.websocket import (
    ACCOUNT_MAX,
    FRAME_COST,
    FRAMES_PER_TURN,
    HEAD_BYTES_MAX,
    PACKET_EARNS,
    WebSocket,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK = b"\x01\x02\x03\x04"
FIELDS = {
    "Host": "127.0.0.1:8080",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "mqtt",
}


def request(line: str = "GET /mqtt HTTP/1.1", **changes: str | None) -> bytes:
    fields = FIELDS | {name.replace("_", "-"): value for name, value in changes.items()}
    rows = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([line, *rows, "", ""]).encode("latin-1")


def frame(content: bytes, opcode: int = 2, *, fin: bool = True, mask: bytes = MASK) -> bytes:
    return masked_frame(content, opcode, fin=fin, mask=mask)


def opened(*, trusting: bool = False) -> WebSocket:
    web = WebSocket(trusting=trusting, secure=False)
    assert web.receive(request()) == b""
    assert web.wrap(b"").startswith(b"HTTP/1.1 101 ")
    return web


def said(web: WebSocket, data: bytes) -> tuple[bytes, bytes, bool]:
    """What it passes on, what it answers, and whether it has ended."""
    passed = web.receive(data)
    return passed, web.wrap(b""), web.ended is not None


def closed_with(code: int) -> bytes:
    return b"\x88\x02" + code.to_bytes(2)


def test_the_handshake_of_the_rfc_is_answered_as_in_the_rfc() -> None:
    web = WebSocket(trusting=False, secure=False)
    assert web.receive(request()) == b""
    head, end, rest = web.wrap(b"").partition(b"\r\n\r\n")
    first, *rows = head.split(b"\r\n")
    assert (first, end, rest) == (b"HTTP/1.1 101 Switching Protocols", b"\r\n\r\n", b"")
    assert set(rows) == {
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"Sec-WebSocket-Protocol: mqtt",
    }
    assert web.ended is None


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (404, request("GET / HTTP/1.1")),
        (405, request("POST /mqtt HTTP/1.1")),
        (400, request("GET /mqtt HTTP/1.0")),
        (400, request(Host=None)),
        (400, request().replace(b"Host:", b"Host: a\r\nHost:")),
        (400, request().replace(b"Host:", b"Ho\x00st:")),
        (400, request().replace(b"Host:", b"Host: a\r\n b\r\nX:")),
        (426, request(Upgrade=None)),
        (426, request(Connection="close")),
        (426, request(Sec_WebSocket_Version="8")),
        (400, request(Sec_WebSocket_Key=None)),
        (400, request(Sec_WebSocket_Key="c2hvcnQ=")),
        (400, request(Sec_WebSocket_Key="no base64 at all!!!!!!==")),
        (400, request(Sec_WebSocket_Protocol=None)),
        (400, request(Sec_WebSocket_Protocol="mqttv3.1, chat")),
        (431, b"GET /mqtt HTTP/1.1\r\nX: " + bytes(HEAD_BYTES_MAX)),
        (400, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\r\n\r\n"),
    ],
)
def test_a_request_that_is_no_websocket_for_mqtt_gets_its_status(status: int, head: bytes) -> None:
    web = WebSocket(trusting=False, secure=False)
    passed, answer, ended = said(web, head)
    assert (passed, ended) == (b"", True)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    length = int(answer.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert len(answer.partition(b"\r\n\r\n")[2]) == length > 0


def test_names_and_tokens_of_the_request_may_be_in_any_case_and_company() -> None:
    web = WebSocket(trusting=False, secure=False)
    web.receive(
        request(
            "GET /mqtt?x=1 HTTP/1.1",
            Connection="keep-alive, UPGRADE",
            Upgrade="WebSocket",
            Sec_WebSocket_Protocol="mqttv3.1, mqtt",
        ).replace(b"Host", b"hOST")
    )
    assert web.ended is None


def test_a_request_without_an_end_is_not_kept_beyond_its_limit() -> None:
    web = WebSocket(trusting=False, secure=False)
    fed = 0
    while web.ended is None:
        web.receive(bytes(100))
        fed += 100
    assert HEAD_BYTES_MAX < fed <= HEAD_BYTES_MAX + 200


@pytest.mark.parametrize(
    ("origin", "host", "trusting", "secure", "welcome"),
    [
        (None, "127.0.0.1:1", True, False, True),
        ("http://localhost:3000", "127.0.0.1:1", True, False, True),
        ("http://[::1]", "localhost:1", True, False, True),
        ("https://evil.example", "127.0.0.1:1", True, False, False),
        ("https://evil.example", "evil.example:1", True, False, False),  # its name leads to us
        ("null", "127.0.0.1:1", True, False, False),
        ("https://home.example", "home.example:1", True, True, True),  # and TLS shows that it is us
        ("https://evil.example", "home.example:1", True, True, False),
        ("https://evil.example", "home.example:1", False, False, True),  # it needs a password
    ],
)
def test_a_page_gets_in_without_a_password_only_from_here(
    origin: str | None, host: str, trusting: bool, secure: bool, welcome: bool
) -> None:
    web = WebSocket(trusting=trusting, secure=secure)
    web.receive(request(Origin=origin, Host=host))
    answer = web.wrap(b"")
    assert answer.startswith(b"HTTP/1.1 101" if welcome else b"HTTP/1.1 403")
    assert (web.ended is None) is welcome


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 200_001])
def test_data_of_any_size_passes_both_ways(size: int) -> None:
    web = opened()
    content = os.urandom(size)
    assert said(web, frame(content)) == (content, b"", False)
    out = web.wrap(content)
    head = {0: 0, 1: 2, 126: 4, 65_536: 10}
    length = max(least for least in head if least <= size)
    assert out == b"" if not size else out[head[length] :] == content and out[0] == 0x82


def test_a_frame_is_passed_on_while_it_still_arrives() -> None:
    web = opened()
    whole = frame(bytes(range(256)) * 300)
    assert web.receive(whole[:20]) == bytes(range(6))
    assert web.receive(whole[20:]) == (bytes(range(256)) * 300)[6:]


@given(
    contents=st.lists(st.binary(max_size=300), max_size=12),
    cuts=st.lists(st.integers(0, 4000), max_size=20),
    mask=st.binary(min_size=4, max_size=4),
)
def test_however_the_stream_is_cut_the_same_bytes_pass(
    contents: list[bytes], cuts: list[int], mask: bytes
) -> None:
    stream = b"".join(
        frame(part, 2 if n == 0 else 0, fin=n == len(contents) - 1, mask=mask)
        + frame(b"x" * n, 9, mask=mask)
        for n, part in enumerate(contents)
    )
    web, passed, answers = opened(), b"", b""
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    for begin, end in itertools.pairwise(places):
        passed += web.receive(stream[begin:end])
        answers += web.wrap(b"")
    assert passed == b"".join(contents)
    assert answers == b"".join(
        bytes((0x8A, n)) + b"x" * n for n in range(len(contents))
    )  # a pong for each ping
    assert web.ended is None


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                frame,
                st.binary(max_size=130),
                st.sampled_from([0, 1, 2, 8, 9, 10, 11]),
                fin=st.booleans(),
            ),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_whatever_comes_is_an_answer_and_nothing_is_hoarded(
    parts: list[bytes], shaken: bool
) -> None:
    web = opened() if shaken else WebSocket(trusting=False, secure=False)
    for part in parts:
        passed = web.receive(part)
        assert len(passed) <= len(part)
        if web.ended is not None:
            break
        assert len(web._buffer) <= (125 + 14 if shaken else HEAD_BYTES_MAX)
    said = web.wrap(b"")
    if web.ended is not None:
        assert said
        assert web.wrap(b"x") == web.farewell() == b""


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (1002, b"\x82\x01a"),  # not masked
        (1002, b"\xc2\x81\x00\x00\x00\x00a"),  # a reserved bit, as of a compressed message
        (1003, frame(b"text", 1)),
        (1003, frame(b"", 3)),
        (1002, frame(b"", 0)),  # goes on where nothing began
        (1002, frame(b"a", fin=False) + frame(b"b")),  # begins where something goes on
        (1002, frame(b"", 9, fin=False)),
        (1002, b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + bytes(126)),  # a long ping
        (1002, frame(b"", 0xB)),
        (1002, b"\x82\xfe\x00\x7d\x00\x00\x00\x00" + bytes(125)),  # 125 in three bytes
        (1002, b"\x82\xff" + (65_535).to_bytes(8) + bytes(4)),
        (1002, b"\x82\xff" + (1 << 63).to_bytes(8) + bytes(4)),
        (1002, frame(b"\x03", 8)),
        (1002, frame((1005).to_bytes(2), 8)),
        (1002, frame((999).to_bytes(2), 8)),
        (1007, frame((1000).to_bytes(2) + b"\xff", 8)),
    ],
)
def test_what_the_rfc_forbids_ends_the_connection_with_its_code(code: int, data: bytes) -> None:
    web = opened()
    passed, answer, ended = said(web, data + frame(b"later"))
    assert (answer, ended) == (closed_with(code), True)
    assert b"later" not in passed
    assert web.ended != CLOSED
    assert web.farewell() == b""


def test_a_close_is_answered_with_its_code_and_what_came_before_still_counts() -> None:
    web = opened()
    passed, answer, ended = said(web, frame(b"last") + frame((1001).to_bytes(2) + b"bye", 8))
    assert (passed, answer, ended) == (b"last", closed_with(1001), True)
    assert web.ended == CLOSED
    assert web.wrap(b"too late") == b""


def test_the_broker_says_goodbye_once() -> None:
    web = opened()
    assert web.farewell() == closed_with(1000)
    assert web.farewell() == b""


def test_a_turn_handles_a_bounded_number_of_frames_and_says_that_there_is_more() -> None:
    web = opened()
    count = FRAMES_PER_TURN + 10
    passed = web.receive(frame(b"a" * FRAME_COST) * count)
    assert 0 < len(passed) <= FRAMES_PER_TURN * FRAME_COST
    assert web.more
    assert passed + web.receive(b"") == b"a" * FRAME_COST * count
    assert not web.more


@pytest.mark.parametrize("tiny", [frame(b"", 9), frame(b""), frame(b"x"), frame(b"", 10)])
def test_very_many_frames_with_next_to_nothing_in_them_end_the_connection(tiny: bytes) -> None:
    web = opened()
    frames = 0
    while web.ended is None and frames < 2 * ACCOUNT_MAX:
        web.receive(tiny)
        frames += 1
    assert web.wrap(b"").endswith(closed_with(1008))
    assert ACCOUNT_MAX // FRAME_COST < frames < 1.1 * ACCOUNT_MAX // FRAME_COST


def test_small_frames_that_are_packets_may_go_on_for_ever() -> None:
    web = opened()
    for _ in range(10_000):
        for _ in range(PACKET_EARNS // FRAME_COST):
            web.receive(frame(b"x"))
        web.earned(1)
    assert web.ended is None
