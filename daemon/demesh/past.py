"""What a node takes back at its start: standing, ledger, tip, and what it said as a voter.

The journal alone is enough to keep this voter honest: without the ledger's file it starts again
from the genesis, above every view it may have voted in, and gets the blocks from its peers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import demesh_consensus as consensus
from demesh.errors import ConfigError, StorageError
from demesh.ledger.ledger import Ledger
from demesh.membership.directory import Directory
from demesh.ports import Restored
from demesh.snapshots import Checkpoint
from demesh.wire import statements
from demesh.wire.kinds import Kind
from demesh.wire.messages import GenesisBody
from demesh.wire.schema import U32, U64, Bounds, Malformed, decode, encode
from demesh.wire.signer import Signer
from demesh.wire.validate import Validator, View

_STANDING, _VOTE, _PROPOSAL, _CERTIFICATE = b"s", b"v", b"p", b"c"

# Which number this device had among the voters when it voted stands before a vote's frame.
_VOTER_BYTES = 2


@dataclass(frozen=True, slots=True)
class Standing:
    """How often this device booted; its journal was cut up to view `floor` of `epoch`.

    `given_up` is the id of a vote key that must never vote again, or empty.
    """

    boot: U64 = 0
    epoch: U32 = 0
    floor: U64 = 0
    given_up: Annotated[bytes, Bounds(0, 16)] = b""

    def record(self) -> bytes:
        """For the journal; the last one counts."""
        return _STANDING + encode(self)


def standing_of(journal: tuple[bytes, ...]) -> Standing:
    """The standing a journal ends with; raises StorageError."""
    records = [record[1:] for record in journal if record[:1] == _STANDING]
    try:
        return decode(Standing, records[-1]) if records else Standing()
    except Malformed as error:
        raise StorageError(f"votes.journal: {error}; it is of another version") from None


def record_of(entry: consensus.Entry, signer: Signer) -> bytes:
    """The journal record of what consensus must not forget."""
    match entry:
        case consensus.Vote():
            return _VOTE + entry.voter.to_bytes(_VOTER_BYTES, "big") + signer.own_vote(entry)
        case consensus.Proposal():
            return _PROPOSAL + statements.encode_proposal(entry)
        case consensus.Certificate():
            return _CERTIFICATE + statements.encode_certificate(entry)


def entries_of(
    journal: tuple[bytes, ...], validator: Validator, vote_id: bytes
) -> list[consensus.Entry]:
    """What the journal says about consensus, in order; votes of another key do not count.

    Raises StorageError: what cannot be read may be a vote, and a second one would contradict it.
    """
    try:
        return [
            entry
            for record in journal
            if (entry := _entry_of(record, validator, vote_id)) is not None
        ]
    except Malformed as error:
        raise StorageError(f"votes.journal: {error}; it is of another version") from None


def _entry_of(record: bytes, validator: Validator, vote_id: bytes) -> consensus.Entry | None:
    kind, content = record[:1], record[1:]
    if kind == _PROPOSAL:
        return statements.decode_proposal(content)
    if kind == _CERTIFICATE:
        return statements.decode_certificate(content)
    if kind == _VOTE:
        voter, frame = int.from_bytes(content[:_VOTER_BYTES], "big"), content[_VOTER_BYTES:]
        view = validator.check(frame)
        if isinstance(view, View) and view.sender == vote_id:
            statement = statements.decode_statement(view.payload)
            return consensus.Vote(statement, voter, frame[-64:])
    return None


def read_vote(view: View, frame: bytes, directory: Directory) -> consensus.Vote | None:
    """The vote in a valid frame; None if it is none, or not of a voter. Raises Malformed."""
    member = directory.voter(view.sender)
    if view.kind is not Kind.VOTE or member is None or member.voter is None:
        return None
    return consensus.Vote(statements.decode_statement(view.payload), member.voter, frame[-64:])


@dataclass(frozen=True, slots=True)
class Past:
    """What a node goes on from."""

    standing: Standing
    journal: tuple[bytes, ...]
    ledger: Ledger
    tip: consensus.Tip


def past_of(mesh_id: bytes, body: GenesisBody, restored: Restored) -> Past:
    """Ledger and tip as stored and checked against the tip's state root, else of the genesis.

    Raises ConfigError about the genesis and StorageError about what is stored.
    """
    standing = standing_of(restored.journal)
    kept = {(space, key): value for space, key, value in restored.kept}
    # In both stores: a device that counts its boots anew is a replay to everybody.
    boots = int.from_bytes(kept.get(("boot", b""), b""), "big")
    standing = replace(standing, boot=max(standing.boot, boots) + 1)
    try:
        ledger = Ledger.genesis(body)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if restored.tip is None and restored.checkpoint is None:
        tip = consensus.Tip(0, 0, body.time_s, mesh_id, None)
        return Past(standing, restored.journal, ledger, tip)
    try:
        header, final = last_of(restored)
        # Stored are the records that blocks changed; all others are still as founded.
        ledger = Ledger.restore((dict(ledger.records()) | dict(restored.records)).items())
        if ledger.root != header.state_root:
            raise ValueError(f"its records do not give the state root of block {header.height}")
        certificate = None if final is None else statements.decode_final(final)[0]
    except ValueError as error:
        raise StorageError(
            f"ledger.db: {error}; move it away and start again: blocks come back from the peers, "
            "only vouchers that nobody claimed are lost"
        ) from None
    view = 0 if header.closing else header.view
    tip = consensus.Tip(view, header.height, header.time_s, header.digest, certificate)
    return Past(standing, restored.journal, ledger, tip)


def last_of(restored: Restored) -> tuple[statements.Header, bytes | None]:
    """The last block, and what makes it final; None if that is a block above an adopted one.

    Raises Malformed.
    """
    if restored.tip is not None:
        block = statements.decode_block(restored.tip.block)
        return statements.header_of(block), restored.tip.certificate or b""
    adopted = decode(Checkpoint, restored.checkpoint or b"")
    return adopted.header, None if adopted.above else adopted.final
