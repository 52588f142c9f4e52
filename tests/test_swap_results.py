"""The committed results of the swap experiment: whole, made as they say, and what the chapter tells of them."""

import json
import shlex
from pathlib import Path

import nbformat
import pytest

from geonorm.experiments import final_errors, read_records
from geonorm.experiments.swap import AFTER, DEFAULT, MODEL, PRESETS
from geonorm.experiments.swap_results import row_facts

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results"
FACTS = json.loads((RESULTS / "swap.json").read_text())
RECORDS = read_records(RESULTS / "swap.csv")
TARGETS = ("forces", "couplings")


@pytest.mark.parametrize("target", TARGETS)
def test_every_row_ran_with_every_seed_to_the_end(target):
    epochs = FACTS["targets"][target]["epochs"]
    runs = {(r["normalization"], r["seed"], r["epoch"]) for r in RECORDS if r["target"] == target}
    assert runs == {(name, seed, epoch) for name in DEFAULT for seed in (0, 1, 2) for epoch in range(epochs + 1)}
    assert len(RECORDS) == sum(len(DEFAULT) * 3 * (FACTS["targets"][t]["epochs"] + 1) for t in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_results_are_those_of_the_full_preset(target):
    made, preset = FACTS["targets"][target], PRESETS["full"][target]
    assert {key: made[key] for key in preset if key not in ("seeds", "normalizations")} == {
        key: value for key, value in preset.items() if key not in ("seeds", "normalizations")
    }
    assert made["model"] == MODEL
    assert (made["seeds"], made["normalizations"]) == ([0, 1, 2], [*DEFAULT])
    words = shlex.split(made["command"])
    assert words[:3] == ["geonorm", "reproduce", "swap"]
    assert words.count("--normalization") == len(DEFAULT)
    assert {"python", "torch", "e3nn", "lightning", "geonorm"} <= set(made["versions"])


def test_what_is_broken_after_training_is_what_the_checker_says_of_the_row():
    for record in RECORDS:
        if record["epoch"] < FACTS["targets"][record["target"]]["epochs"]:
            continue
        row = FACTS["rows"][record["normalization"]]
        assert all(record[key] == record[key] for key in AFTER)
        assert (record["rotation"] > 1e-6) == ("rotation" in row["broken"]), record
        assert (record["coupling"] > 1e-6) == row["couples"], record
        assert max(record["permutation"], record["coupling_evaluation"]) < 1e-9, record


def test_the_checker_still_says_so():
    few = ("none", "BatchNorm", "PairNorm", "SchNet", "GeometricNorm")
    found = row_facts(few)
    for name in few:
        said = FACTS["rows"][name]
        assert found[name] | {"broken": {}} == said | {"broken": {}}
        assert found[name]["broken"] == pytest.approx(said["broken"], rel=0.05)


def test_rows_that_are_one_function_have_the_same_errors():
    for target in TARGETS:
        found = final_errors([r for r in RECORDS if r["target"] == target], "test_error")
        # Of scalars and vectors alone, one size for all that rotates is one for the vectors.
        for one, other in (("LayerNorm", "SetNorm"), ("EquivariantLayerNorm", "SeparableLayerNorm")):
            assert found[one].values == pytest.approx(found[other].values, rel=0.02)


def test_the_chapter_prints_what_the_file_says():
    notebook = nbformat.read(ROOT / "notebooks" / "15_necessary_not_sufficient.ipynb", as_version=4)
    printed = "\n".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", ()))
    for target in TARGETS:
        means = [e.mean for e in final_errors([r for r in RECORDS if r["target"] == target], "test_error").values()]
        assert f"{target}: from the best to the worst row a factor of {max(means) / min(means):.2f}" in printed


def test_the_files_are_small():
    assert (RESULTS / "swap.csv").stat().st_size < 400_000
    assert (RESULTS / "swap_depth.csv").stat().st_size < 200_000
