"""docs/architecture.md names what exists: every path, package, contract and make target."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PATH = re.compile(
    r"`((?:daemon|consensus|firmware_sim|tests|configs|docs)/[^`\s]+|pyproject\.toml)`"
)


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, heads and rules included."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def contracts() -> list[dict[str, object]]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found: list[dict[str, object]] = document["tool"]["importlinter"]["contracts"]
    return found


def test_every_path_named_exists() -> None:
    named = PATH.findall(TEXT)
    assert len(named) > 60
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_where_to_change_what_has_a_path_in_every_row() -> None:
    listed = rows(section("Where do I change X?"))[2:]
    assert len(listed) >= 20
    assert [what for what, where, _ in listed if not PATH.search(where)] == []


def test_the_house_names_every_package_and_module() -> None:
    written = set(PATH.findall(section("The house")))
    exist = {"consensus/demesh_consensus", "firmware_sim/demesh_sim"}
    for path in (ROOT / "daemon" / "demesh").iterdir():
        package = (path / "__init__.py").exists()
        if package or (path.suffix == ".py" and not path.name.startswith("__")):
            exist.add(path.relative_to(ROOT).as_posix())
    assert written == exist


def test_the_layers_are_those_of_the_contract() -> None:
    layers = contracts()[1]["layers"]
    assert isinstance(layers, list)
    drawn = section("Who may import whom").partition("cli > ")[2].partition("```")[0]
    written = ["cli", *re.split(r"\s*>\s*", drawn.strip())]
    names = [", ".join(re.findall(r"demesh\.(\w+)", layer)) for layer in layers]
    assert [sorted(one.split(", ")) for one in written] == [
        sorted(one.split(", ")) for one in names
    ]


def test_what_the_core_must_not_import_is_listed_in_full() -> None:
    core = next(one for one in contracts() if "clock" in str(one["name"]))
    text = re.sub(r"\s+", " ", section("Who may import whom"))
    for name in ("forbidden_modules", "source_modules"):
        modules = core[name]
        assert isinstance(modules, list)
        short = (module.removeprefix("demesh.").removeprefix("demesh_") for module in modules)
        assert [one for one in short if not re.search(rf"\b{one}\b", text)] == []


def test_the_make_targets_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make (\w+)`", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
