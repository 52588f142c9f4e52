"""The benchmarks: what the command line asks for, and what a comparison gives. Nothing is timed here to be believed."""

import csv
import importlib
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(monkeypatch):
    """The command, with what it is made of."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module("run")
    for name in [name for name in sys.modules if name == "run" or name.split(".")[0] == "harness"]:
        del sys.modules[name]


def test_results_are_named_after_what_was_measured(run, monkeypatch):
    assert run.file_name(run.arguments([])) == "cpu.csv"
    assert run.file_name(run.arguments(["--threads", "2"])) == "cpu_2_threads.csv"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200 (141 GB)")
    assert run.file_name(run.arguments(["--device", "cuda"])) == "nvidia_h200_141_gb.csv"


def test_a_device_that_is_not_there_is_no_riddle(run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "--device", "cuda"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        run.main()


def test_a_comparison_has_the_columns_of_the_committed_results(run):
    from harness.cases import Case
    from harness.compare import compare
    from harness.pairs import PAIRS

    with (ROOT / "benchmarks" / "results" / "cpu.csv").open() as file:
        header = next(csv.reader(file))
    rows = list(compare(PAIRS[0], Case("two", (3, 4), 2, 8), samples=1))
    assert [row["mode"] for row in rows] == list(PAIRS[0].modes)
    assert list(rows[0]) == header[: len(rows[0])]


def test_on_a_cuda_device_events_are_the_clock_and_kernels_are_counted(run, monkeypatch):
    # The path through the comparison, with meters that are not there: only a device can say what they measure.
    from harness import compare, cuda
    from harness.cases import Case
    from harness.pairs import PAIRS

    class OnDevice(torch.Tensor):
        is_cuda = True

    monkeypatch.setattr(
        cuda, "event_times", lambda candidates, _: dict(zip(candidates, (2e-6, 8e-6, 1e-6), strict=True))
    )
    monkeypatch.setattr(cuda, "peak_memory", lambda _: 1024)
    monkeypatch.setattr(cuda, "kernels", lambda _: 1)
    draw = Case.draw
    monkeypatch.setattr(Case, "draw", lambda case: (draw(case)[0].as_subclass(OnDevice), draw(case)[1]))
    (row, *_) = compare.compare(PAIRS[0], Case("two", (3, 4), 2, 8), 1, "cpu")
    assert row["peer_over_ours"] == "4.00"
    assert row["share_of_copy"] == "0.50"
    assert row["ours_kernels"] == "1"
    assert float(row["copy_gb_per_s"]) == round(2 * int(row["nodes"]) * 8 * 4 / 1e-6 / 1e9)
