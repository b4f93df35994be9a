"""The bytes of the vote journal, for the file and for the simulator's disk alike.

    length u32 | crc32 u32 | payload          payload = (length u32 | record)*

A frame holds what one append call wrote. The checksum runs over salt, the frame's offset, its
length and its payload: old disk blocks, a page of zeros and bytes that only look like a frame (a
record may hold a peer's bytes) never pass.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from zlib import crc32

MAGIC = b"demeshJ1"
SALT_BYTES = 8
HEADER_BYTES = len(MAGIC) + SALT_BYTES
FRAME_HEAD = struct.Struct(">II")

# A vote record is some hundred bytes, a proposal at most a frame of 64 KiB; a turn holds 64 inputs.
# Larger is our own fault; smaller would refuse a full turn.
FRAME_BYTES_MAX = 8 * 1024 * 1024

_RECORD_HEAD = struct.Struct(">I")
_PLACE = struct.Struct(">QI")


def frame(salt: bytes, records: Sequence[bytes], offset: int) -> bytes:
    """One append of records at `offset` of the file."""
    payload = b"".join(_RECORD_HEAD.pack(len(record)) + record for record in records)
    assert 0 < len(payload) <= FRAME_BYTES_MAX, f"{len(payload)} bytes in one turn"
    return FRAME_HEAD.pack(len(payload), _sum(salt, offset, payload)) + payload


def whole(salt: bytes, records: Sequence[bytes]) -> bytes:
    """A journal's whole content after its header, in as many frames as it takes."""
    content, taken, size = b"", list[bytes](), 0
    for record in records:
        cost = _RECORD_HEAD.size + len(record)
        if size + cost > FRAME_BYTES_MAX:
            content += frame(salt, taken, HEADER_BYTES + len(content))
            taken, size = [], 0
        taken.append(record)
        size += cost
    return content + frame(salt, taken, HEADER_BYTES + len(content)) if taken else content


def payload_at(salt: bytes, content: bytes, offset: int) -> memoryview | None:
    """The payload of a good frame at `offset`, or None."""
    start = offset + FRAME_HEAD.size
    if start > len(content):
        return None
    length, checksum = FRAME_HEAD.unpack_from(content, offset)
    if not 0 < length <= min(FRAME_BYTES_MAX, len(content) - start):
        return None
    payload = memoryview(content)[start : start + length]
    return payload if _sum(salt, offset, payload) == checksum else None


def leading(salt: bytes, content: bytes) -> tuple[tuple[bytes, ...], int]:
    """Records of the good frames from the header on, and where the last of these frames ends."""
    records: list[bytes] = []
    offset = HEADER_BYTES
    while (payload := payload_at(salt, content, offset)) is not None:
        records.extend(_records(payload))
        offset += FRAME_HEAD.size + len(payload)
    return tuple(records), offset


def _sum(salt: bytes, offset: int, payload: bytes | memoryview) -> int:
    return crc32(payload, crc32(salt + _PLACE.pack(offset, len(payload))))


def _records(payload: memoryview) -> Iterator[bytes]:
    offset = 0
    while offset < len(payload):
        (length,) = _RECORD_HEAD.unpack_from(payload, offset)
        offset += _RECORD_HEAD.size
        yield bytes(payload[offset : offset + length])
        offset += length
