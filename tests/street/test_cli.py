"""`demesh swarm run`: what a person can get wrong is one line and a proper exit code."""

from pathlib import Path

import pytest

from demesh.cli.main import main

STREET = Path(__file__).parents[2] / "configs" / "scenarios" / "street.toml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BROKER", raising=False)
    monkeypatch.delenv("DURATION", raising=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere.toml"], "nowhere.toml: cannot be read: No such file"),
        ([str(STREET), "--duration", "soon"], "duration 'soon' is not a number of seconds"),
        ([str(STREET), "--duration", "0"], "duration '0' is not a number of seconds"),
        ([str(STREET), "--broker", "http://x"], "broker 'http://x' is not an address"),
        ([str(STREET), "--broker", "mqtt://u:p@h"], "broker 'mqtt://u:p@h' is not an address"),
        ([str(STREET), "--broker", "mqtt://h:99999"], "broker 'mqtt://h:99999' is not an address"),
        ([str(STREET), "--broker", "mqtt://h,x"], "broker 'x' is not an address"),
        ([str(STREET), "--broker", "mqtt://h,"], "broker '' is not an address"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_78(words, expected, capsys):
    assert main(["swarm", "run", *words]) == 78
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1


def test_the_environment_gives_duration_and_broker(monkeypatch, capsys):
    monkeypatch.setenv("DURATION", "long")
    assert main(["swarm", "run", str(STREET)]) == 78
    assert "duration 'long'" in capsys.readouterr().err
    monkeypatch.setenv("DURATION", "5")
    monkeypatch.setenv("BROKER", "tcp://x")
    assert main(["swarm", "run", str(STREET)]) == 78
    assert "broker 'tcp://x'" in capsys.readouterr().err


def test_a_place_that_cannot_hold_a_run_is_said(tmp_path, capsys):
    (tmp_path / "runs").write_text("a file")
    assert main(["swarm", "run", str(STREET)]) == 74
    assert "cannot hold a run" in capsys.readouterr().err
