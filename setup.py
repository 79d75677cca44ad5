"""The list of extension modules; everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

CORE = Path("aof2/_core")
# A build that only has to show that it works may ask for a quicker one.
OPTIMIZATION = os.environ.get("AOF2_OPTIMIZATION", "-O3")
COMMON_FLAGS = [OPTIMIZATION, "-fno-strict-aliasing", "-Wall", "-Wno-unused-function"]

# The checksum kernel picks its instruction set at run time (function-level target attributes), so
# no module is compiled for more than the architecture's baseline and one wheel runs on every
# machine.
EXTRA_SOURCES = {"checksum": [str(CORE / "crc64nvme.c")]}


def extensions() -> list[Extension]:
    """One extension per `.pyx`; AOF2_EXT=name,name builds only those, for a quick edit-build
    cycle."""
    wanted = set(filter(None, os.environ.get("AOF2_EXT", "").split(",")))
    return [
        Extension(
            f"aof2._core.{source.stem}",
            [str(source), *EXTRA_SOURCES.get(source.stem, [])],
            include_dirs=[str(CORE)],
            depends=[str(header) for header in sorted(CORE.glob("*.h"))],
            extra_compile_args=COMMON_FLAGS,
            extra_link_args=["-pthread"],
        )
        for source in sorted(CORE.glob("*.pyx"))
        if not wanted or source.stem in wanted
    ]


setup(
    ext_modules=cythonize(
        extensions(),
        language_level=3,
        nthreads=int(os.environ.get("AOF2_BUILD_JOBS", "2")),
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            "embedsignature.format": "python",
            "freethreading_compatible": False,
            "autotestdict": False,
            "auto_pickle": False,
        },
    )
)
