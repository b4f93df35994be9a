"""The optional Cython extension; all else about the package is in pyproject.toml.

Without Cython or a C compiler the package installs as pure Python. In the environment,
`SKIP_CYTHON=1` asks for that, and `REQUIRE_CYTHON=1` makes a failed build an error.
"""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

SKIP = os.environ.get("SKIP_CYTHON") == "1"
REQUIRE = os.environ.get("REQUIRE_CYTHON") == "1"


class BuildOrSay(build_ext):
    """One line about an extension that could not be built, whether that is an error or not."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except (CCompilerError, ExecError, PlatformError) as error:
            if REQUIRE:
                raise SystemExit(
                    f"REQUIRE_CYTHON=1, and {ext.name} could not be compiled ({error}): install a "
                    "C compiler and Python's headers (apt install gcc libc6-dev python3-dev)"
                ) from error
            self.warn(f"{ext.name} was not compiled ({error}): Demesh installs as pure Python")


def extensions() -> list[Extension]:
    if SKIP and REQUIRE:
        raise SystemExit("SKIP_CYTHON=1 and REQUIRE_CYTHON=1 contradict each other: set one")
    if SKIP:
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415  it may be missing
    except ImportError as error:
        if REQUIRE:
            raise SystemExit(
                f"REQUIRE_CYTHON=1, and there is no Cython ({error}): pip install 'Cython>=3.1'"
            ) from error
        return []
    hotpath = Extension(
        "demesh.wire._hotpath",
        ["daemon/demesh/wire/_hotpath.pyx"],
        # The stable ABI: one build serves CPython 3.11 and everything after it.
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        py_limited_api=True,
        # Debug information would be nine tenths of the file, on boards that run from an SD card.
        extra_compile_args=["-g0"],
    )
    built = cythonize([hotpath], build_dir="build/cython")
    for extension in built:
        extension.optional = not REQUIRE  # set here, because cythonize drops it
    return list(built)


EXTENSIONS = extensions()

setup(
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": BuildOrSay},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if EXTENSIONS else {},
)
