"""Key files: private, whole, never overwritten; every mistake is one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from demesh.errors import KeyFileError
from demesh.storage.keys import PREFIX, create_key, load_key, read_private, write_key


def test_a_created_key_is_loaded_again_from_a_file_only_its_owner_can_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "device.key"
    key = create_key(path)
    assert bytes(load_key(path)) == bytes(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["device.key"]


def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    key = create_key(path)
    with pytest.raises(KeyFileError, match="there is a key already"):
        create_key(path)
    with pytest.raises(KeyFileError, match="there is a key already"):
        write_key(path, key)
    assert bytes(load_key(path)) == bytes(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o601])
def test_a_key_open_to_others_is_refused_with_the_command_that_helps(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "device.key"
    create_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode 0{mode:o} .*; chmod 600 {path}") as caught:
        load_key(path)
    assert caught.value.exit_code == 77


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 85,
        b"00" * 32,
        PREFIX.encode() + b"00" * 31,
        PREFIX.encode() + b"00" * 33,
        PREFIX.encode() + b"0g" * 32,
        b"-----BEGIN PRIVATE KEY-----",
    ],
)
def test_a_malformed_key_says_what_was_expected_and_never_what_is_in_it(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "device.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="not a key; expected one line") as caught:
        load_key(path)
    assert "00000000" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_a_folder_and_a_missing_folder_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no such file"):
        load_key(tmp_path / "device.key")
    with pytest.raises(KeyFileError, match="not a file"):
        load_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="not a file"):
        load_key(tmp_path / "pipe")
    with pytest.raises(KeyFileError, match="cannot write the key: No such file or directory"):
        create_key(tmp_path / "nowhere" / "device.key")


def test_a_private_file_is_read_to_one_byte_beyond_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_bytes(b"x" * 100)
    assert read_private(path, 10) == b"x" * 11
