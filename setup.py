"""Build the compiled kernels where there is a compiler; without one the library computes the same with torch alone."""

from __future__ import annotations

import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError

SOURCE = Path("geonorm/kernels/cpu/source")
#: The kernels are compiled once per instruction set; the fastest that the processor has is chosen at run time.
SETS = {"default": []}
if platform.machine() in ("x86_64", "AMD64"):
    SETS |= {
        "avx2": ["-mavx2", "-mfma", "-mbmi2"],
        "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }

#: Products and sums are rounded where they are written: a node alone in its sample has a gradient of exactly zero.
#: Loops that matter say themselves what is unrolled and what becomes vectors; -O3 takes longer and gains nothing.
OPTIONS = [
    "-std=c++17",
    "-O2",
    "-g0",
    "-fno-exceptions",
    "-fno-rtti",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
]


class Kernels(build_ext):
    """A shared library of its own: it knows neither Python nor torch, and fits all their versions."""

    def get_ext_filename(self, fullname: str) -> str:
        """The name without the version of Python."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile with threads, if the compiler knows OpenMP, else without."""
        for threads in (["-fopenmp"], ["-fopenmp-simd"]):
            try:
                self.build_library(ext, threads)
                return
            except (BaseError, CompileError, OSError) as error:
                reason = error
        raise CompileError(f"no compiled kernels: {reason}")

    def build_library(self, ext: Extension, threads: list[str]) -> None:
        """Compile, one instruction set beside the other, and link."""
        jobs = [(SOURCE / "segments.cpp", "default", [])]
        jobs += [(SOURCE / "cpu.cpp", name, [*options, f"-DISA={name}"]) for name, options in SETS.items()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = pool.map(lambda job: self.compile_one(ext, threads, *job), jobs)
            objects = [path for paths in compiled for path in paths]
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(library), libraries=["m"], extra_postargs=threads)

    def compile_one(self, ext: Extension, threads: list[str], source: Path, name: str, options: list[str]) -> list[str]:
        """The object file of one source for one instruction set; none if the compiler does not know that set."""
        try:
            return self.compiler.compile(
                [str(source)],
                output_dir=str(Path(self.build_temp) / name),
                depends=ext.depends,
                extra_postargs=[*OPTIONS, *threads, *options],
            )
        except (BaseError, CompileError):
            if name == "default":
                raise
            return []


class Wheel(bdist_wheel):
    """A wheel for one system and any Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tags of the wheel."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "geonorm.kernels._cpu",
            [str(SOURCE / "cpu.cpp"), str(SOURCE / "segments.cpp")],
            depends=sorted(map(str, SOURCE.glob("*.h"))),
            optional=True,
        )
    ],
    cmdclass={"build_ext": Kernels, "bdist_wheel": Wheel},
)
