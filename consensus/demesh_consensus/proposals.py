"""What makes a proposal valid, and what a leader puts into one (R-CON-2, R-CON-3)."""

from __future__ import annotations

from demesh_consensus.chain import Chain
from demesh_consensus.clock import MeshClock
from demesh_consensus.effects import Crypto
from demesh_consensus.round import Round, Rounds
from demesh_consensus.types import Block, Certificate, Instant, StatementKind, Voters

# Certificates carried inside a proposal, in bytes; a long run of skipped views goes ahead of it.
JUSTIFICATION_BYTES_MAX = 16 * 1024

# What a certificate costs on the wire: its statement and envelope, and each signature.
_CERTIFICATE_BYTES = 64
_SIGNATURE_BYTES = 72


def place_of(digest: bytes, chain: Chain, rounds: Rounds) -> tuple[int, int] | None:
    """(height, time_s) of a block, executed from what is at hand; None if something lacks."""
    place = chain.place(digest)
    if place is None and chain.path(digest, rounds.proposed()) is not None:
        place = chain.place(digest)
    return place


def compose(
    epoch: int, view: int, parent_view: int, parent: bytes, chain: Chain, time_s: int
) -> Block:
    """What a leader proposes on a block that is here, at its own mesh time or the parent's."""
    if chain.ends(parent):
        return chain.next_filler(view, parent)
    place = chain.place(parent)
    assert place is not None, "a leader proposes on a block that it has executed"
    time_s = max(place[1], time_s)
    ops, root, closing = chain.application.build(parent, time_s)
    height = place[0] + 1
    return Block(epoch, view, parent_view, parent, height, time_s, ops, root, closing)


def judge(
    block: Block, digest: bytes, chain: Chain, rounds: Rounds, clock: MeshClock, now: Instant
) -> bool | None:
    """Is this block a valid next one? None: cannot be said yet."""
    tip = chain.tip
    if not tip.view <= block.parent_view < block.view:
        return False
    if block.parent_view == tip.view:
        if block.parent != tip.digest:
            return False
    else:
        held = rounds.get(block.parent_view)
        if held is None or held.notarized is None:
            return None
        if held.notarized != block.parent:
            return False
    place = place_of(block.parent, chain, rounds)
    if place is None or not rounds.skipped(block.parent_view, block.view):
        return None
    if block.height != place[0] + 1 or block.time_s < place[1]:
        return False
    if not clock.accepts(block.time_s, now):
        return None
    return chain.execute(block, digest)


def justification(
    parent_view: int, view: int, chain: Chain, rounds: Rounds
) -> tuple[tuple[Certificate, ...], tuple[Certificate, ...]]:
    """What shows that the parent is right: (to send ahead, to carry inside)."""
    on = chain.tip.certificate if chain.tip.view else None  # all know where their epoch began
    if parent_view > chain.tip.view:
        on = rounds.at(parent_view).certificates[StatementKind.NOTARIZE]
    certificates = [on] if on else []
    for skipped in range(parent_view + 1, view):
        certificates.append(rounds.at(skipped).certificates[StatementKind.NULLIFY])
    room, inside = JUSTIFICATION_BYTES_MAX, 0
    for certificate in reversed(certificates):
        room -= _CERTIFICATE_BYTES + _SIGNATURE_BYTES * len(certificate.signatures)
        if room < 0:
            break
        inside += 1
    cut = len(certificates) - inside
    return tuple(certificates[:cut]), tuple(certificates[cut:])


def is_good(certificate: Certificate, voters: Voters, crypto: Crypto, round_: Round | None) -> bool:
    """Quorum weight of distinct voters signed; what `round_` counted is not verified again."""
    statement = certificate.statement
    if not voters.heard(statement):
        return False
    if round_ and round_.certificates.get(statement.kind) == certificate:
        return True
    weight, before = 0, -1
    for voter, signature in certificate.signatures:
        if not before < voter < len(voters.weights):
            return False
        held = round_.said(voter, statement.kind) if round_ else None
        known = held is not None and (held.statement, held.signature) == (statement, signature)
        if not known and not crypto.verify(voter, statement, signature):
            return False
        weight, before = weight + voters.weights[voter], voter
    return weight >= voters.quorum
