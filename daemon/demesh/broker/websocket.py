"""MQTT in WebSocket (RFC 6455; MQTT 5.0 section 6): a layer that streams and keeps no frame.

Theory of operation. First comes one HTTP request, at most `HEAD_BYTES_MAX` long; then frames. The
bytes of a data frame are passed on as they arrive, unmasked, for MQTT packets need not fit frames
(MQTT-6.0.0-2) and their size is the decoder's business: so no length of a frame, and no number of
fragments, makes this layer hold more than one header and one control frame (125 bytes).

Frames cost this process more than their sender. Each takes `FRAME_COST` from an account that bytes
and whole packets fill again; who sends next to nothing in a great many frames, or only pings, is
closed. A turn handles `FRAMES_PER_TURN` frames; `more` says that there is more.

No extension is agreed on, so reserved bits are errors (RFC 6455, 5.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import struct
from enum import Enum
from urllib.parse import urlsplit

from demesh.broker.layers import CLOSED

PATH = "/mqtt"
PROTOCOL = "mqtt"  # MQTT-6.0.0-3
KEY_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

# Browsers send about 1 KiB, with cookies of other services on the same host some more.
HEAD_BYTES_MAX = 8 * 1024

# Clients write a packet in up to six frames (mqtt.js: one for each of its parts), or many packets
# in one. A packet pays for 16, a frame of 64 bytes for itself, and 256 may come for nothing.
FRAME_COST = 64
ACCOUNT_MAX = 256 * FRAME_COST
PACKET_EARNS = 16 * FRAME_COST

# Some 3 us each: as long as the packets that one turn allows.
FRAMES_PER_TURN = 256

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
CONTROL_BYTES_MAX = 125

GOODBYE, BAD_FRAME, BAD_DATA, BAD_TEXT, POLICY = 1000, 1002, 1003, 1007, 1008
# What a client may say in its close frame (RFC 6455, 7.4), beside the free ones from 3000 on.
CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class Phase(Enum):
    """How far a connection is."""

    HEAD = "waits for the HTTP request"
    OPEN = "frames"
    CLOSED = "nothing more is read"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.HEAD: frozenset({Phase.OPEN, Phase.CLOSED}),
    Phase.OPEN: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


class WebSocket:
    """The server's side of one connection; a `layers.Layer`.

    `trusting`: some clients need no password here, so that a page of anybody's, open in a browser
    on this machine, must not get in. Then pages are let in only from this machine itself or, under
    TLS, which shows that the name is ours, from the host they call.
    """

    __slots__ = (
        "_account",
        "_answers",
        "_buffer",
        "_fragmented",
        "_mask",
        "_passed",
        "_phase",
        "_remaining",
        "_secure",
        "_trusting",
        "ended",
        "more",
    )

    def __init__(self, *, trusting: bool, secure: bool) -> None:
        self.ended: str | None = None
        self.more = False
        self._phase = Phase.HEAD
        self._trusting = trusting
        self._secure = secure
        self._buffer = b""  # a part of the request, of a header or of a control frame
        self._answers = b""
        self._account = ACCOUNT_MAX
        self._fragmented = False  # a message has begun whose last fragment has not come
        self._remaining = 0  # bytes still to come of the data frame that is being passed on
        self._passed = 0  # and how many of it came
        self._mask = b""

    def earned(self, packets: int) -> None:
        """So many whole MQTT packets came out of the last bytes."""
        self._account = min(ACCOUNT_MAX, self._account + packets * PACKET_EARNS)

    # -- out --------------------------------------------------------------------------------------

    def wrap(self, data: bytes) -> bytes:
        """Answers that were due, then one binary frame with the data."""
        answers, self._answers = self._answers, b""
        return answers + _frame(BINARY, data) if data and self._phase is Phase.OPEN else answers

    def farewell(self) -> bytes:
        """A close frame, if none was sent yet."""
        if self._phase is not Phase.OPEN:
            return b""
        self._enter(Phase.CLOSED)
        return _frame(CLOSE, GOODBYE.to_bytes(2))

    # -- in ---------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """MQTT's bytes out of what came."""
        buffer = self._buffer + data if self._buffer else data
        self._buffer = b""
        self.more = False
        if self._phase is Phase.HEAD:
            head, found, rest = buffer.partition(b"\r\n\r\n")
            if len(head) > HEAD_BYTES_MAX:
                self._refuse("431 Request Header Fields Too Large", "a shorter request")
                return b""
            if not found:
                self._buffer = buffer
                return b""
            self._handshake(head)
            buffer = rest
        if self._phase is not Phase.OPEN:
            return b""
        return self._frames(buffer)

    def _frames(self, buffer: bytes) -> bytes:
        parts: list[bytes] = []
        at, end = 0, len(buffer)
        for _ in range(FRAMES_PER_TURN):
            if self._remaining:
                part = buffer[at : at + self._remaining]
                at += len(part)
                parts.append(self._unmask(part))
                if self._remaining:
                    break
            if end - at < 2:
                break
            taken = self._header(buffer, at)
            if taken is None or self._phase is Phase.CLOSED:
                break
            at += taken
        else:
            self.more = at < end
        if self._phase is Phase.OPEN:
            self._buffer = buffer[at:]
        return b"".join(parts)

    def _unmask(self, part: bytes) -> bytes:
        """The next bytes of the data frame in clear."""
        turn = self._passed % 4
        self._passed += len(part)
        self._remaining -= len(part)
        self._account = min(ACCOUNT_MAX, self._account + len(part))
        return _masked(part, self._mask[turn:] + self._mask[:turn])

    def _header(self, buffer: bytes, at: int) -> int | None:
        """Take in the header at `at`, with all of a control frame; None: not all of it is here."""
        first, second = buffer[at], buffer[at + 1]
        opcode, length, size = first & 0x0F, second & 0x7F, 2
        if first & 0x70 or not second & 0x80:
            return self._fail(
                BAD_FRAME, "a frame with reserved bits" if first & 0x70 else "no mask"
            )
        control = opcode >= CLOSE
        if control and (length > CONTROL_BYTES_MAX or not first & 0x80):
            return self._fail(BAD_FRAME, "a control frame too long or in fragments")
        if length > CONTROL_BYTES_MAX:
            size = 4 if length == 126 else 10
            if len(buffer) - at < size:
                return None
            least = 126 if length == 126 else 0x1_0000
            length = int.from_bytes(buffer[at + 2 : at + size])
            if not least <= length < 1 << 63:
                return self._fail(BAD_FRAME, "a length written in too many bytes")
        if len(buffer) - at < size + 4 + (length if control else 0):
            return None
        self._account -= FRAME_COST
        if self._account < 0:
            return self._fail(POLICY, "many frames with next to nothing in them")
        mask = buffer[at + size : at + size + 4]
        size += 4
        if control:
            content = _masked(buffer[at + size : at + size + length], mask)
            self._control(opcode, content)
            return size + length
        if opcode not in (BINARY, CONTINUATION):
            return self._fail(BAD_DATA, "a frame that is not binary")
        if (opcode == CONTINUATION) is not self._fragmented:
            return self._fail(BAD_FRAME, "fragments in disorder")
        self._fragmented = not first & 0x80
        self._mask, self._remaining, self._passed = mask, length, 0
        return size

    def _control(self, opcode: int, content: bytes) -> None:
        if opcode == PING:
            self._answers += _frame(PONG, content)
        elif opcode == CLOSE:
            fault = _close_fault(content)
            if fault:
                self._fail(fault, "a close frame that is not valid")
                return
            self._answers += _frame(CLOSE, content[:2])
            self._enter(Phase.CLOSED)
            self.ended = CLOSED
        elif opcode != PONG:
            self._fail(BAD_FRAME, "an unknown control frame")

    def _fail(self, code: int, why: str) -> int:
        """End with a close frame of this code; no byte more is taken."""
        self._answers += _frame(CLOSE, code.to_bytes(2))
        self._enter(Phase.CLOSED)
        self.ended = why
        return 0

    # -- handshake --------------------------------------------------------------------------------

    def _handshake(self, head: bytes) -> None:
        request, *lines = head.decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or not name or name != name.strip() or not line.isprintable():
                return self._refuse("400 Bad Request", "header lines of a name and a value")
            if name in fields and name not in ("connection", "upgrade", "sec-websocket-protocol"):
                name = f"again {name}"
            fields[name] = f"{fields[name]}, {value.strip()}" if name in fields else value.strip()
        method, _, rest = request.partition(" ")
        target, _, version = rest.partition(" ")
        if version != "HTTP/1.1" or "again host" in fields or not fields.get("host"):
            return self._refuse("400 Bad Request", "HTTP/1.1 with one Host")
        if method != "GET":
            return self._refuse("405 Method Not Allowed", "GET")
        if target.partition("?")[0] != PATH:
            return self._refuse("404 Not Found", f"the path {PATH}")
        if (
            "websocket" not in _tokens(fields, "upgrade")
            or "upgrade" not in _tokens(fields, "connection")
            or fields.get("sec-websocket-version") != "13"
            or "again sec-websocket-version" in fields
        ):
            return self._refuse("426 Upgrade Required", "WebSocket, version 13; this is no website")
        key = fields.get("sec-websocket-key", "")
        if not _is_key(key) or "again sec-websocket-key" in fields:
            return self._refuse("400 Bad Request", "one Sec-WebSocket-Key of 16 bytes")
        if PROTOCOL not in _tokens(fields, "sec-websocket-protocol"):
            return self._refuse("400 Bad Request", f"the subprotocol {PROTOCOL}")
        origin = fields.get("origin")
        if origin is not None and not self._welcome(origin, fields["host"]):
            return self._refuse(
                "403 Forbidden", "a page of this machine, or a broker with accounts"
            )
        accept = base64.b64encode(hashlib.sha1(key.encode() + KEY_GUID).digest()).decode()
        self._answers += (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
        ).encode()
        self._enter(Phase.OPEN)
        return None

    def _welcome(self, origin: str, host: str) -> bool:
        if not self._trusting:
            return True
        page = _host(origin)
        return _is_here(page) or (self._secure and page != "" and page == _host(f"//{host}"))

    def _refuse(self, status: str, expected: str) -> None:
        text = f"expected {expected}\n"
        self._answers += (
            f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}"
        ).encode()
        self._enter(Phase.CLOSED)
        self.ended = f"a WebSocket request refused: {text.strip()}"

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self._phase], f"{self._phase} -> {phase}"
        self._phase = phase


def _frame(opcode: int, content: bytes) -> bytes:
    """One frame of a server: whole, not masked."""
    size = len(content)
    if size <= CONTROL_BYTES_MAX:
        return bytes((0x80 | opcode, size)) + content
    if size < 0x1_0000:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + content
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + content


def _masked(data: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask; as one large number, for a loop takes a hundred times as long."""
    size = len(data)
    whole = mask * (size // 4) + mask[: size % 4]
    return (int.from_bytes(data, "little") ^ int.from_bytes(whole, "little")).to_bytes(
        size, "little"
    )


def _close_fault(content: bytes) -> int:
    """The code to answer a bad close frame with; 0 for a good one."""
    if len(content) == 1:
        return BAD_FRAME
    if content:
        code = int.from_bytes(content[:2])
        if code not in CLOSE_CODES and not 3000 <= code < 5000:
            return BAD_FRAME
        try:
            content[2:].decode()
        except UnicodeDecodeError:
            return BAD_TEXT
    return 0


def _tokens(fields: dict[str, str], name: str) -> list[str]:
    tokens = [token.strip() for token in fields.get(name, "").split(",")]
    return tokens if name == "sec-websocket-protocol" else [token.lower() for token in tokens]


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
