"""From a checkout to an installed package, as a stranger's machine does it: every way is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120

pytestmark = [
    pytest.mark.xdist_group("packaging"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="packages are built from a checkout"),
]

HAS_COMPILER = shutil.which(os.environ.get("CC", "cc").split()[0]) is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler: apt install gcc")

# What a build leaves behind in a checkout, and what people leave there.
LITTER = (
    "daemon/demesh/wire/_hotpath.abi3.so",
    "daemon/demesh/wire/_hotpath.c",
    "daemon/demesh/wire/__pycache__/validate.cpython-311.pyc",
    "daemon/demesh.egg-info/PKG-INFO",
    "build/cython/_hotpath.c",
    "dist/demesh.whl",
    "runs/bench/today.json",
    ".venv/bin/python",
)

BUILD_SDIST = "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])"


def run(*command: str | Path, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a program; what it said is one text. `changes` are of its environment."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SKIP_CYTHON", "REQUIRE_CYTHON", "DEMESH_PURE", "PYTHONPATH")
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**environment, **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def tracked() -> list[str]:
    """The files of the checkout, as git has them."""
    listed = run("git", "ls-files", "-z", cwd=ROOT)
    assert listed.returncode == 0, listed.stdout
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of a checkout in which a build has left its traces."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    for name in LITTER:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(b"left over")
    out = tmp_path_factory.mktemp("sdist")
    made = run(sys.executable, "-c", BUILD_SDIST, out, cwd=checkout)
    assert made.returncode == 0, made.stdout
    (found,) = out.iterdir()
    return found


def wheel(
    sdist: Path, out: Path, **changes: str
) -> tuple[Path | None, subprocess.CompletedProcess[str]]:
    """Build a wheel from an sdist; None if that failed."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-v")
    how = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", out)
    made = run(*pip, *how, sdist, cwd=out, **changes)
    return next(out.glob("*.whl"), None), made


def compiled(wheel: Path, place: Path) -> bool:
    """Install a wheel into a fresh environment, and ask it which validator it has."""
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    installed = run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python),
        *("install", "--no-deps", "--no-index", wheel),
        cwd=place,
    )
    assert installed.returncode == 0, installed.stdout
    (site,) = place.glob("lib/python*/site-packages")
    # Dependencies as this run has them. Directories named so come last and their own `.pth` files
    # are not read: an editable Demesh among them stays unknown.
    (site / "dependencies.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"): 0, sysconfig.get_path("platlib"): 0})
    )
    program = "import demesh.wire.validate as v; print(v.__file__, v.COMPILED, sep='\\n')"
    told = run(python, "-c", program, cwd=place)
    assert told.returncode == 0, told.stdout
    where, answer = told.stdout.split()
    assert Path(where).is_relative_to(place)
    return answer == "True"


def test_an_sdist_holds_all_that_git_has_and_nothing_that_was_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    added = {"PKG-INFO", "setup.cfg"}
    kept = {name for name in files if name not in added and ".egg-info/" not in name}
    assert kept == set(tracked())
    assert not files & set(LITTER)


@needs_compiler
def test_with_a_compiler_one_wheel_for_every_python_from_3_11_on_is_compiled(
    sdist: Path, tmp_path: Path
) -> None:
    made, said = wheel(sdist, tmp_path, REQUIRE_CYTHON="1")
    assert made is not None, said.stdout
    assert "-cp311-abi3-" in made.name
    with zipfile.ZipFile(made) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
    assert libraries == ["demesh/wire/_hotpath.abi3.so"]
    assert compiled(made, tmp_path / "venv")


def test_without_a_compiler_it_installs_as_pure_python_and_says_so(
    sdist: Path, tmp_path: Path
) -> None:
    made, said = wheel(sdist, tmp_path, CC="/bin/false")
    assert made is not None, said.stdout
    assert "Demesh installs as pure Python" in said.stdout
    assert not compiled(made, tmp_path / "venv")


def test_a_required_extension_that_cannot_be_compiled_is_an_error_of_one_line(
    sdist: Path, tmp_path: Path
) -> None:
    made, said = wheel(sdist, tmp_path, CC="/bin/false", REQUIRE_CYTHON="1")
    assert made is None and said.returncode != 0
    assert "REQUIRE_CYTHON=1, and demesh.wire._hotpath could not be compiled" in said.stdout
    assert "apt install gcc" in said.stdout


def test_a_skipped_extension_makes_a_wheel_for_any_machine(sdist: Path, tmp_path: Path) -> None:
    made, said = wheel(sdist, tmp_path, SKIP_CYTHON="1")
    assert made is not None, said.stdout
    assert made.name.endswith("-py3-none-any.whl")
    assert not compiled(made, tmp_path / "venv")


def test_skipping_and_requiring_at_once_is_refused(sdist: Path, tmp_path: Path) -> None:
    made, said = wheel(sdist, tmp_path, SKIP_CYTHON="1", REQUIRE_CYTHON="1")
    assert made is None and said.returncode != 0
    assert "SKIP_CYTHON=1 and REQUIRE_CYTHON=1 contradict each other" in said.stdout


@pytest.mark.parametrize("required", ["0", "1"])
def test_without_cython_it_installs_as_pure_python_unless_that_is_required(
    sdist: Path, tmp_path: Path, required: str
) -> None:
    missing = tmp_path / "missing" / "Cython"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ImportError('No module named Cython')\n")
    out = tmp_path / "out"
    out.mkdir()
    hidden = {"PYTHONPATH": str(missing.parent), "REQUIRE_CYTHON": required}
    made, said = wheel(sdist, out, **hidden)
    if required == "1":
        assert made is None and said.returncode != 0
        assert "REQUIRE_CYTHON=1, and there is no Cython" in said.stdout
    else:
        assert made is not None, said.stdout
        assert made.name.endswith("-py3-none-any.whl")
