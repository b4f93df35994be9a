"""The floods of the attack bench are what they say: refused for their code, and never alike."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks import attack, attacker, boards, forgery
from benchmarks.programs import Program, running_broker
from demesh.broker.codec import Decoder, Publish
from demesh.wire import identity
from demesh.wire.frame import seal_statement, split
from demesh.wire.kinds import KIND_BYTES_MAX, Kind, Reject
from demesh.wire.sealing import Sealer
from demesh.wire.statements import decode_statement
from demesh.wire.topics import Topics
from demesh.wire.validate import Validator
from demesh_consensus.types import StatementKind

VIEW = (3, 77)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> boards.Boards:
    return boards.found(tmp_path_factory.mktemp("attack") / "mesh", 4)


@pytest.fixture
def validator(mesh: boards.Boards) -> Validator:
    made = Validator(mesh.binding)
    body = mesh.genesis.body
    keys = [*body.owners]
    for device in body.devices:
        keys += [device.certificate.device_key, device.certificate.vote_key]
    for key in keys:
        made.enrol(identity.device_id(key), key)
    return made


def published(volleys: Iterable[forgery.Volley]) -> list[Publish]:
    packets: list[Publish] = []
    for volley in volleys:
        for got in Decoder(1 << 20).feed(volley.altered()):
            assert isinstance(got, Publish)
            packets.append(got)
    return packets


def test_whatever_is_forged_fails_by_its_signature_alone(
    mesh: boards.Boards, validator: Validator
) -> None:
    public = forgery.Public.of(mesh.genesis)
    own = mesh.identities[1].vote_key
    real = seal_statement(
        Kind.PROPOSAL, mesh.binding, identity.device_id(bytes(own.verify_key)), bytes(300),
        identity.signer(own),
    )  # fmt: skip
    made = forgery.forged(public, 0, VIEW, real)
    signed = [
        volley for area, some in made.items() if area not in ("to", "gone") for volley in some
    ]
    frames = [packet.payload for packet in published(signed)]
    assert len(set(frames)) == len(frames) > 64
    assert set(validator.check_batch(frames)) == {Reject.SIGNATURE}


def test_what_is_forged_for_one_device_alone_fails_by_its_seal(mesh: boards.Boards) -> None:
    public = forgery.Public.of(mesh.genesis)
    receiver = mesh.identities[1].device_key
    sealer = Sealer(receiver, mesh.binding, 1)
    topic = Topics(mesh.mesh_id, public.victim).to(identity.device_id(bytes(receiver.verify_key)))
    packets = published(forgery.forged(public, 0, VIEW, b"")["to"])
    frames = [packet.payload for packet in packets if packet.topic == topic]
    assert len(set(frames)) == len(frames) > 0
    key = public.certificates[0].device_key
    assert {sealer.open(key, frame) for frame in frames} == {Reject.SEAL}


def test_forged_votes_are_of_the_view_that_was_heard_and_on_the_topic_of_the_victim(
    mesh: boards.Boards,
) -> None:
    public = forgery.Public.of(mesh.genesis)
    packets = published(forgery.forged(public, 1, VIEW, b"")["vote"])
    assert {packet.topic for packet in packets} == {public.topics.mine("vote")}
    assert {packet.qos for packet in packets} == {1}
    votes = [decode_statement(split(packet.payload)[1]) for packet in packets]
    assert {(vote.epoch, vote.view) for vote in votes} == {VIEW}
    assert {vote.kind for vote in votes} == set(StatementKind)
    vote_key = bytes(mesh.identities[0].vote_key.verify_key)
    assert {split(packet.payload)[0] for packet in packets} == {identity.device_id(vote_key)}


def test_garbage_has_no_shape_and_what_is_oversize_one_byte_too_many(
    mesh: boards.Boards, validator: Validator
) -> None:
    public = forgery.Public.of(mesh.genesis)
    for volleys, code in (
        (forgery.garbage(public, 0), Reject.SHAPE),
        (forgery.oversize(public, 0), Reject.SIZE),
    ):
        packets = published(volleys)
        assert {packet.topic for packet in packets} == set(public.everywhere())
        frames = [packet.payload for packet in packets]
        assert len(set(frames)) == len(frames)
        assert set(validator.check_batch(frames)) == {code}


def test_a_replay_is_what_was_heard_where_it_was_heard() -> None:
    heard = [("a/b", b"one"), ("c", b"two")]
    burst = forgery.Replay(heard, 0).altered()
    packets = [got for got in Decoder(1 << 20).feed(burst) if isinstance(got, Publish)]
    assert [(packet.topic, packet.payload) for packet in packets] == heard


def test_the_rows_of_a_flood_stand_beside_the_rest_of_its_own_run() -> None:
    rest = attack.Spell(10.0, [10_000_000] * 100, 0, [True] * 30, 100, 25, 4 * 10**9)
    under = attack.Spell(5.0, [25_000_000] * 99, 1, [True, False], 50, 12, 10 * 10**9)
    found = attack.Found(
        attack.Flood("forged"), "mosquitto", rest, under, 1000, 200_000, 5.0, 10**9
    )
    found.rejects[Reject.SIGNATURE.name] = 2000
    found.calm_s = [0.2, 1.5]
    rows = {row.what.partition(",")[0]: row for row in attack.rows_of(found, 60_000)}
    assert rows["finality p99"].ratio == pytest.approx(2.5)
    assert "1 of 2 ops in time" in rows["finality p99"].how
    assert rows["finality p99"].how.endswith("quick again after 1.5 s")
    assert rows["sent"].value == pytest.approx(200)
    assert rows["sent"].reference == pytest.approx(100)
    assert rows["processor"].value == pytest.approx(50)
    assert rows["processor"].reference == pytest.approx(10)
    assert rows["verification"].value == pytest.approx(0.6)


def test_what_the_other_end_has_not_read_was_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as near, server.accept()[0] as far:
            near.sendall(bytes(1000))
            far.recv(1, socket.MSG_PEEK)
            mine = near.getsockname()[1]
            assert attacker.unread(port, mine) == 1000
            assert len(far.recv(400)) == 400
            assert attacker.unread(port, mine) == 600
            assert attacker.unread(mine, port) == 0


def test_an_attacker_floods_on_demand_and_says_how_much_was_taken(
    mesh: boards.Boards, tmp_path: Path
) -> None:
    genesis = str(mesh.folder / "genesis.cbor")
    with running_broker("embedded", tmp_path) as (_, port):
        command = [sys.executable, "-m", "benchmarks.attacker", str(port), genesis]
        program = Program(command, tmp_path / "attacker.log", talks=True)
        try:
            assert program.ask("garbage 0 2").split()[:2] == ["0", "0"]
            sent = size = 0
            while not sent:
                sent, size, _ = map(int, program.ask("forged 0 1").split())
            assert size > sent * KIND_BYTES_MAX[Kind.VOTE] > 0
            assert program.ask("rest 0 0")
            assert program.ask("rest 0 0").split()[:2] == ["0", "0"]
        finally:
            program.stop()
