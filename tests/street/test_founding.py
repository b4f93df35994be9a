"""A founded mesh is sound, reproducible where it must be, and its keys are private."""

import stat
from pathlib import Path

from demesh.storage.keys import load_key
from demesh.wire import identity
from demesh.wire.messages import Genesis
from demesh.wire.schema import decode
from demesh_sim import founding, scenario

STREET = scenario.load(Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml")


def test_the_genesis_of_the_street_is_sound_and_gives_every_board_one_vote():
    founded = founding.found(STREET, 1_800_000_000)
    assert identity.check_genesis(founded.genesis) == founded.mesh_id
    body = founded.genesis.body
    assert [device.weight for device in body.devices] == [1] * 8
    assert len(body.accounts) == 3 + 8 + 1


def test_the_same_seed_founds_the_same_mesh_and_the_systems_entropy_another():
    first = founding.found(STREET, 5, founding.seeded(7))
    assert founding.found(STREET, 5, founding.seeded(7)).mesh_id == first.mesh_id
    assert founding.found(STREET, 5, founding.seeded(8)).mesh_id != first.mesh_id
    assert founding.found(STREET, 5).mesh_id != founding.found(STREET, 5).mesh_id


def test_keys_on_disk_are_for_their_owner_only(tmp_path: Path):
    founded = founding.found(STREET, 5)
    founding.settle(founded, tmp_path)
    assert decode(Genesis, (tmp_path / "genesis.cbor").read_bytes()) == founded.genesis
    keys = list(tmp_path.rglob("*.key"))
    assert len(keys) == 3 + 2 * 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert load_key(tmp_path / "feeder" / "device.key") == founded.boards[0].device_key
