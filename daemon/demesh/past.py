"""What a node takes back at its start: standing, ledger, tip, and what it said as a voter.

The journal alone is enough to keep this voter honest: without the ledger's file it starts again
from the genesis, above every view it may have voted in, and gets the blocks from its peers.
"""

from __future__ import annotations

from dataclasses import dataclass

import demesh_consensus as consensus
from demesh.errors import ConfigError, StorageError
from demesh.ledger.ledger import Ledger
from demesh.membership.directory import Directory
from demesh.ports import Restored
from demesh.wire import statements
from demesh.wire.kinds import Kind
from demesh.wire.messages import GenesisBody
from demesh.wire.schema import U64, Malformed, decode, encode
from demesh.wire.signer import Signer
from demesh.wire.validate import Validator, View

_STANDING, _VOTE, _PROPOSAL, _CERTIFICATE = b"s", b"v", b"p", b"c"


@dataclass(frozen=True, slots=True)
class Standing:
    """How often this device booted, the view below which its journal was cut, may it ever vote."""

    boot: U64 = 0
    floor: U64 = 0
    quarantined: bool = False

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
            return _VOTE + signer.own_vote(entry)
        case consensus.Proposal():
            return _PROPOSAL + statements.encode_proposal(entry)
        case consensus.Certificate():
            return _CERTIFICATE + statements.encode_certificate(entry)


def entries_of(
    journal: tuple[bytes, ...], validator: Validator, directory: Directory, vote_id: bytes
) -> list[consensus.Entry]:
    """What the journal says about consensus, in order; records of another vote key do not count."""
    entries: list[consensus.Entry] = []
    for record in journal:
        kind, content = record[:1], record[1:]
        if kind == _PROPOSAL:
            entries.append(statements.decode_proposal(content))
        elif kind == _CERTIFICATE:
            entries.append(statements.decode_certificate(content))
        elif kind == _VOTE:
            view = validator.check(content)
            if isinstance(view, View) and view.sender == vote_id:
                vote = read_vote(view, content, directory)
                if vote is not None:
                    entries.append(vote)
    return entries


def read_vote(view: View, frame: bytes, directory: Directory) -> consensus.Vote | None:
    """The vote in a valid frame; None if it is none, or not of a voter. Raises Malformed."""
    member = directory.voter(view.sender)
    if view.kind is not Kind.VOTE or member is None or member.voter is None:
        return None
    return consensus.Vote(statements.decode_statement(view.payload), member.voter, frame[-64:])


def ledger_and_tip(
    mesh_id: bytes, body: GenesisBody, restored: Restored
) -> tuple[Ledger, consensus.Tip]:
    """As stored and checked against the tip's state root, else those of the genesis."""
    try:
        ledger = Ledger.genesis(body)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if restored.tip is None:
        return ledger, consensus.Tip(0, 0, body.time_s, mesh_id, None)
    try:
        block = statements.decode_block(restored.tip.block)
        # Stored are the records that blocks changed; all others are still as founded.
        ledger = Ledger.restore((dict(ledger.records()) | dict(restored.records)).items())
        if ledger.root != block.state_root:
            raise ValueError(f"its records do not give the state root of block {block.height}")
        certificate = statements.decode_certificate(restored.tip.certificate or b"")
    except ValueError as error:
        raise StorageError(
            f"ledger.db: {error}; move it away and start again: blocks come back from the peers, "
            "only vouchers that nobody claimed are lost"
        ) from None
    digest = statements.digest_of(block)
    return ledger, consensus.Tip(block.view, block.height, block.time_s, digest, certificate)
