"""What real nodes stored after some epochs proves every record, on each of them."""

from __future__ import annotations

from demesh.ledger.ledger import Ledger
from demesh.ledger.state import Electorate
from demesh.light import HandOver, Proof, prove, verify
from demesh.past import past_of
from demesh.wire import identity, statements
from demesh.wire.messages import Genesis
from demesh.wire.schema import decode, encode
from demesh_sim.bare import found_bare
from demesh_sim.hosts import Host
from sim.reform import Reform


def proofs_of(host: Host, genesis: Genesis) -> dict[bytes, Proof]:
    """A proof of every record that a board's disk gives, by key."""
    restored = host.store.load()
    assert restored.tip is not None and restored.tip.certificate is not None
    block = statements.decode_block(restored.tip.block)
    ledger: Ledger = past_of(identity.mesh_id(genesis.body), genesis.body, restored).ledger
    links = [decode(HandOver, stored) for stored in host.store.hand_overs()]
    before = [link for link in links if link.header.epoch < block.epoch]
    found = {}
    for key, _ in ledger.records():
        made = prove(ledger, statements.header_of(block), restored.tip.certificate, before, key)
        assert made is not None
        found[key] = decode(Proof, encode(made))
    return found


def test_every_board_proves_every_record_after_epochs_that_one_slept_through() -> None:
    reform = Reform(11, observers=1, until_s=40)
    genesis = found_bare(4, 11, observers=1, owners=3).genesis  # the seed's, again
    reform.run(6)
    reform.want(4, 1)
    reform.run(12)
    reform.swarm.hosts[2].crash()
    reform.run(13)
    reform.want(4, 2)
    reform.run(19)
    reform.want(0, 0)
    reform.run(25)
    reform.swarm.hosts[2].boot()
    reform.run(32)
    reform.want(0, 1)
    reform.run(60)
    reform.check_whole()
    boards = [proofs_of(host, genesis) for host in reform.swarm.hosts]
    assert len({tuple(board) for board in boards}) == 1
    for key in boards[0]:
        proved = [verify(genesis.body, board[key]) for board in boards]
        assert len({(one.height, one.epoch, one.record) for one in proved}) == 1
        assert proved[0].epoch == 4
    last = decode(Electorate, boards[0][b"v"].record)
    assert sorted(elector.weight for elector in last.voters) == [1, 1, 1, 1, 2]
