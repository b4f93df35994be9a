"""The optional Cython extension; all else about the package is in pyproject.toml.

Without Cython or a C compiler the package installs as pure Python. In the environment,
`SKIP_CYTHON=1` asks for that, and `REQUIRE_CYTHON=1` makes a failed build an error.
"""

import os

from setuptools import Extension, setup

SKIP = os.environ.get("SKIP_CYTHON") == "1"
REQUIRE = os.environ.get("REQUIRE_CYTHON") == "1"


def extensions() -> list[Extension]:
    if SKIP and REQUIRE:
        raise SystemExit("SKIP_CYTHON=1 and REQUIRE_CYTHON=1 contradict each other: set one")
    if SKIP:
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415  it may be missing
    except ImportError:
        if REQUIRE:
            raise
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
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if EXTENSIONS else {},
)
