"""Build the compiled kernels where there is a compiler; without one the library computes the same with torch alone."""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError

#: The kernels are compiled once per instruction set; the fastest that the processor has is chosen at run time.
SETS = {"default": []}
if platform.machine() in ("x86_64", "AMD64"):
    SETS |= {
        "avx2": ["-mavx2", "-mfma", "-mbmi2"],
        "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }

#: Products and sums are rounded where they are written: a node alone in its sample has a gradient of exactly zero.
OPTIONS = [
    "-std=c++17",
    "-O3",
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
        """Compile the one source for each instruction set, with threads if the compiler knows OpenMP."""
        for threads in (["-fopenmp"], ["-fopenmp-simd"]):
            try:
                self.build_library(ext, threads)
                return
            except (BaseError, CompileError, OSError) as error:
                reason = error
        raise CompileError(f"no compiled kernels: {reason}")

    def build_library(self, ext: Extension, threads: list[str]) -> None:
        """Compile and link."""
        objects = []
        for name, options in SETS.items():
            folder = Path(self.build_temp) / name
            common = ["-DCOMMON"] if name == "default" else []
            try:
                objects += self.compiler.compile(
                    ext.sources,
                    output_dir=str(folder),
                    depends=ext.depends,
                    extra_postargs=[*OPTIONS, *threads, *options, *common, f"-DISA={name}"],
                )
            except (BaseError, CompileError):
                if name == "default":
                    raise
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(library), extra_postargs=threads)


class Wheel(bdist_wheel):
    """A wheel for one system and any Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tags of the wheel."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("geonorm.kernels._cpu", ["geonorm/kernels/cpu.cpp"], optional=True)],
    cmdclass={"build_ext": Kernels, "bdist_wheel": Wheel},
)
