"""The build of the compiled kernels."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


needs_setuptools = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None, reason="setuptools builds the kernels"
)


@needs_setuptools
def test_without_a_compiler_the_installation_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_ext", f"--build-lib={tmp_path}/lib", f"--build-temp={tmp_path}"]
    environment = os.environ | {"CC": "/bin/false", "CXX": "/bin/false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'building extension "geonorm.kernels._cpu" failed' in done.stdout + done.stderr
    assert not list(tmp_path.rglob("_cpu*.so"))


@needs_setuptools
def test_an_archive_of_the_source_holds_all_that_the_kernels_are_built_from(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "egg_info", f"--egg-base={tmp_path}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    listed = {ROOT / line for line in next(tmp_path.rglob("SOURCES.txt")).read_text().splitlines()}
    source = ROOT / "geonorm" / "kernels" / "cpu" / "source"
    assert {source / "cpu.cpp", source / "order.h"} < set(source.iterdir()) <= listed
