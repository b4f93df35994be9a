"""The command line as a person meets it: every mistake one line and its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.mesh import Mesh
from transport.brokers import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path, f"mqtt://127.0.0.1:{free_port()}")


def assert_told(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on standard error, no traceback, and the exit code."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("demesh: ")
    for word in words:
        assert word in lines[0]


def run(mesh: Mesh, *words: str) -> subprocess.CompletedProcess[str]:
    return mesh.demesh("run", "--config", str(mesh.boards[0].config), *words)


def replace(mesh: Mesh, right: str, wrong: str) -> None:
    path = mesh.boards[0].config
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))


def test_the_version_is_printed(mesh: Mesh) -> None:
    assert mesh.demesh("version").stdout == mesh.demesh("--version").stdout
    assert mesh.demesh("version").stdout.startswith("demesh 0.")


def test_a_good_configuration_is_said_to_be_good_and_nothing_is_made(mesh: Mesh) -> None:
    done = run(mesh, "--check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "good; board0 (meter)" in done.stdout
    assert not (mesh.boards[0].folder / "data").exists()


def test_the_example_passes_the_check_once_its_driver_is_installed(mesh: Mesh) -> None:
    facts = mesh.plugins / "stilldriver-1.dist-info" / "entry_points.txt"
    facts.write_text("[demesh.drivers]\nsimulated = stilldriver:open_still\n")
    done = mesh.demesh("run", "--config", str(ROOT / "configs/demesh.toml"), "--check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "not there yet, so not checked: genesis.cbor, device.key, vote.key" in done.stdout


def test_a_configuration_that_is_missing_or_wrong_exits_with_78(mesh: Mesh) -> None:
    assert_told(mesh.demesh("run", "--config", "nowhere.toml"), 78, "nowhere.toml", "No such file")
    replace(mesh, "wait_s", "wait")
    assert_told(run(mesh), 78, "demesh.toml:11", 'wait is unknown; did you mean "wait_s"?')


def test_the_check_looks_into_keys_and_genesis_too(mesh: Mesh) -> None:
    folder = mesh.boards[0].folder
    (folder / "vote.key").chmod(0o644)
    assert_told(run(mesh, "--check-config"), 77, "vote.key", "chmod")
    (folder / "vote.key").chmod(0o600)
    replace(mesh, 'name = "board0"', 'name = "somebody"')
    assert_told(run(mesh, "--check-config"), 78, "its certificate says 'board0'")


def test_an_unknown_driver_lists_the_known_ones(mesh: Mesh) -> None:
    replace(mesh, 'driver = "still"', 'driver = "stil"')
    assert_told(run(mesh, "--check-config"), 78, 'did you mean "still"?', "known drivers:")


def test_options_a_driver_does_not_take_name_the_file(mesh: Mesh) -> None:
    replace(mesh, "power_w = 5", "power_kw = 5")
    assert_told(run(mesh), 78, "demesh.toml: [driver] takes power_w, demand_w")


def test_a_missing_package_says_what_to_install(mesh: Mesh) -> None:
    replace(mesh, 'driver = "still"', 'driver = "absent"')
    assert_told(run(mesh), 69, "pip install rich_but_not_installed")
    assert_told(mesh.demesh("broken"), 69, "pip install rich_but_not_installed")


def test_a_broken_command_of_others_is_listed_with_what_it_needs_and_disturbs_nothing_else(
    mesh: Mesh,
) -> None:
    assert run(mesh, "--check-config").returncode == 0
    listed = mesh.demesh("--help")
    assert listed.returncode == 0
    assert "rich_but_not_installed is missing" in " ".join(listed.stdout.split())


@pytest.mark.parametrize(
    ("module", "package"),
    [("rich.live", "rich"), ("nacl", "pynacl"), ("paho.mqtt", "paho-mqtt"), ("cbor2", "cbor2")],
)
def test_a_missing_module_names_the_package_that_brings_it(module: str, package: str) -> None:
    from demesh.cli.plugins import missing  # noqa: PLC0415

    error = missing(ModuleNotFoundError(f"No module named '{module}'", name=module))
    assert str(error).endswith(f"pip install {package}")


def test_keys_that_are_missing_open_or_foreign_exit_with_77_or_78(mesh: Mesh) -> None:
    key = mesh.boards[0].folder / "device.key"
    key.chmod(0o644)
    assert_told(run(mesh), 77, "mode 0644", f"chmod 600 {key}")
    key.rename(key.with_suffix(".away"))
    assert_told(run(mesh), 77, "device.key", "no such file")
    (mesh.boards[1].folder / "vote.key").rename(key)
    assert_told(run(mesh), 78, "not a member of street")


def test_a_genesis_that_is_missing_cut_or_forged_exits_with_78(mesh: Mesh) -> None:
    genesis = mesh.folder / "genesis.cbor"
    content = genesis.read_bytes()
    genesis.write_bytes(content[:-1])
    assert_told(run(mesh), 78, "genesis.cbor: not a genesis")
    genesis.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_told(run(mesh), 78, "genesis.cbor: no valid genesis")
    genesis.unlink()
    assert_told(run(mesh), 78, "genesis.cbor: the genesis cannot be read: No such file")


def test_a_password_file_is_held_to_the_rules_of_keys(mesh: Mesh) -> None:
    board = mesh.boards[0]
    extra = 'username = "board0"\npassword_file = "password"'
    mesh.configure(board, "mqtt://127.0.0.1:1", extra)
    password = board.folder / "password"
    password.write_text("secret\n")
    password.chmod(0o644)
    assert_told(run(mesh), 77, "chmod 600")
    password.chmod(0o600)
    password.write_text("two\nlines\n")
    assert_told(run(mesh), 77, "on one line")


def test_python_without_assertions_is_refused(mesh: Mesh) -> None:
    assert_told(mesh.demesh("version", python=("-O",)), 78, "run it without -O")


def test_without_a_command_the_commands_are_listed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demesh"], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{ROOT}/daemon:{ROOT}/consensus", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "usage: demesh" in done.stderr


def test_the_daemon_imports_no_more_than_it_needs() -> None:
    """Memory on a Pi: what a running daemon has loaded, against what would be too much."""
    heavy = ["rich", "demesh_sim", "hypothesis", "yaml", "pydantic", "pkg_resources", "numpy"]
    script = (
        "import sys, demesh.cli.main, demesh.cli.run, demesh.node, demesh.runtime, "
        "demesh.storage.store, demesh.observe.lines\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{ROOT}/daemon:{ROOT}/consensus", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
