"""What a node's disk gives back: a record that cannot be read ends the start, in one line."""

from __future__ import annotations

import pytest

from demesh.errors import StorageError
from demesh.past import Standing, entries_of
from demesh.wire.frame import Binding
from demesh.wire.validate import Validator


@pytest.mark.parametrize("record", [b"p", b"p\x80", b"c\x80", b"c\xff"])
def test_a_journal_of_another_version_is_a_storage_error_and_no_traceback(record: bytes) -> None:
    validator = Validator(Binding(bytes(32), 1))
    journal = (Standing(1).record(), record)
    with pytest.raises(StorageError, match=r"votes\.journal: .* another version"):
        entries_of(journal, validator, bytes(16))


def test_records_that_are_no_entries_are_passed_over() -> None:
    validator = Validator(Binding(bytes(32), 1))
    journal = (Standing(1).record(), b"", b"v", b"v\0\0", b"x")
    assert entries_of(journal, validator, bytes(16)) == []
