"""Every row in one network: records, resumption, rows that are added later, runs that diverge, and the command."""

import json
import math
import os
import shlex
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from data.bonds import stretched_bonds
from data.springs import springs

from geonorm.cli import main
from geonorm.data import load_couplings, write_configurations, write_couplings
from geonorm.experiments import read_records
from geonorm.experiments.element_energies import fit_element_energies, without_element_energies
from geonorm.experiments.in_place import check_in_place
from geonorm.experiments.summary import final_errors
from geonorm.experiments.swap import AFTER, DEFAULT, MODEL, PRESETS, swap_rows
from geonorm.experiments.swap_results import gather, row_facts
from geonorm.experiments.swap_targets import TARGETS, errors_of_pairs, has_running_statistics, problem
from geonorm.models.backbone import Backbone
from geonorm.table import AFTER_2022, TABLE1

pytest.importorskip("lightning")

TINY = {"width": 4, "blocks": 1, "num_radial": 4}
QUICK = {"epochs": 1, "seeds": 1, "train": 20, "test": 8, "batch_size": 5, "model": TINY, "progress": False}
BONDS = {**QUICK, "train": 16}
ERRORS = ("train_loss", "train_error", "test_error", "test_live_error", "test_energy_error", "test_live_energy_error")


def same(one: list[dict], other: list[dict]) -> bool:
    """Equal records; what is not a number equals itself."""
    return json.dumps(one) == json.dumps(other)


def test_one_record_for_each_run_and_epoch():
    names = ("none", "BatchNorm", "RMSNorm")
    records = swap_rows("forces", springs(), normalizations=names, **{**QUICK, "seeds": (0, 4)})
    runs = [(r["seed"], r["normalization"], r["epoch"]) for r in records]
    assert runs == [(seed, name, epoch) for seed in (0, 4) for name in names for epoch in range(2)]
    assert [*records[0]] == ["target", "normalization", "seed", "epoch", *ERRORS, "gradient_norm", *AFTER]
    assert all(math.isfinite(record[key]) and record[key] > 0 for record in records for key in ERRORS)
    for record in records:
        # What differs in training mode are statistics of the batch, and nothing else does.
        assert (record["test_error"] == record["test_live_error"]) == (record["normalization"] != "BatchNorm")
        assert all(math.isnan(record[key]) == (record["epoch"] == 0) for key in AFTER)
    none, batch, rms = (next(r for r in records[::-1] if r["normalization"] == name) for name in names)
    assert max(none[key] for key in AFTER) < 1e-10
    assert max(rms[key] for key in AFTER) < 1e-10
    assert min(batch[key] for key in ("rotation", "rotation_evaluation", "coupling")) > 1e-3
    assert max(batch[key] for key in ("permutation", "coupling_evaluation")) < 1e-10


def test_forces_before_training_are_those_of_the_untrained_network():
    first = swap_rows("forces", springs(), normalizations=("none",), energy_weight=0.3, **{**QUICK, "epochs": 0})[0]
    train, test = springs().split(20, 8)
    constants = fit_element_energies(train)
    network = Backbone(seed=0, device="cpu", **TINY).eval()
    for stage, part in (("train", train), ("test", test)):
        z, pos, batch, energies, forces = without_element_energies(part, constants).batch(range(len(part)))
        found = [value.detach() for value in network(z, pos, batch, len(part))]
        energy, force = (found[0] - energies).abs().mean(), (found[1] - forces).norm(dim=1).mean()
        assert first[f"{stage}_error"] == pytest.approx(force.item(), rel=1e-4)
        if stage == "train":
            assert first["train_loss"] == pytest.approx((0.3 * energy + 0.7 * force).item(), rel=1e-4)
        else:
            assert first["test_energy_error"] == pytest.approx(energy.item(), rel=1e-4)


def test_couplings_before_training_are_those_of_the_untrained_network():
    bonds = stretched_bonds()
    first = swap_rows("couplings", bonds, normalizations=("none",), **{**BONDS, "epochs": 0})[0]
    train, test = bonds.split(16, 8)
    means = {kind: train.constants[train.types == kind].mean() for kind in set(train.types)}
    scale = (train.constants - [means[kind] for kind in train.types]).std()
    network = Backbone(readout="pairs", seed=0, device="cpu", **TINY).eval()
    batch = test.batch(range(8))
    values = network(batch.z, batch.pos, batch.batch, 8, batch.pair_index).detach().numpy()
    predicted = scale * values + np.array([means[kind] for kind in test.types])
    assert first["test_error"] == pytest.approx(np.abs(predicted - test.constants).mean(), rel=1e-4)
    assert math.isnan(first["test_energy_error"])
    # The loss is in units of the spread that is left.
    assert first["train_error"] == pytest.approx(scale * first["train_loss"], rel=1e-4)


@pytest.mark.parametrize(("target", "data"), [("forces", springs()), ("couplings", stretched_bonds())])
def test_training_learns_and_repeats_itself(target, data):
    options = {**(QUICK if target == "forces" else BONDS), "epochs": 8, "learning_rate": 1e-2, "decay": 0.9}
    one, two = (swap_rows(target, data, normalizations=("RMSNorm",), **options) for _ in range(2))
    assert same(one, two)
    assert one[-1]["train_error"] < 0.6 * one[0]["train_error"]
    assert one[-1]["test_error"] < 0.9 * one[0]["test_error"]


def test_rows_and_seeds_are_added_without_repeating_finished_runs(tmp_path):
    options = {**QUICK, "out": tmp_path}
    first = swap_rows("forces", springs(), normalizations=("none", "Allegro / MACE"), **options)
    finished = sorted((tmp_path / "runs").glob("*.csv"))
    assert [path.name for path in finished] == ["forces_Allegro_MACE_seed0.csv", "forces_none_seed0.csv"]
    touched = [path.stat().st_mtime_ns for path in finished]
    more = swap_rows(
        "forces", springs(), normalizations=("none", "Allegro / MACE", "SetNorm"), **{**options, "seeds": 2}
    )
    assert touched == [path.stat().st_mtime_ns for path in finished]
    assert same([r for r in more if r["normalization"] != "SetNorm" and r["seed"] == 0], first)
    assert len(more) == 2 * 3 * 2
    assert same(read_records(tmp_path / "swap.csv"), more)
    depth = read_records(tmp_path / "swap-depth.csv")
    assert {(r["normalization"], r["seed"], r["epoch"]) for r in depth} == {
        (name, seed, epoch) for name in ("none", "Allegro / MACE", "SetNorm") for seed in (0, 1) for epoch in (0, 1)
    }
    assert {"embedding", "scalars 1", "vectors 1", "read-out"} <= {record["layer"] for record in depth}
    with pytest.raises(ValueError, match=r"other settings: batch_size 5 \(now 4\)"):
        swap_rows("forces", springs(), normalizations=("none",), **{**options, "batch_size": 4})


def test_a_run_that_was_stopped_continues(tmp_path, monkeypatch):
    import geonorm.experiments.training as training

    options = {**QUICK, "epochs": 3, "normalizations": ("ScaleFactor", "BatchNorm")}
    whole = swap_rows("forces", springs(), **options)
    original, stops = training._Module.on_train_epoch_end, []

    def stop_once(module):
        original(module)
        if module.current_epoch == 1 and not stops:
            stops.append(1)
            raise RuntimeError("power cut")

    monkeypatch.setattr(training._Module, "on_train_epoch_end", stop_once)
    with pytest.raises(RuntimeError, match="power cut"):
        swap_rows("forces", springs(), out=tmp_path, **options)
    assert stops
    assert not list((tmp_path / "runs").glob("*.csv"))
    resumed = swap_rows("forces", springs(), out=tmp_path, **options)
    for one, other in zip(resumed, whole, strict=True):
        assert {k: v for k, v in one.items() if isinstance(v, str)} == {
            k: v for k, v in other.items() if isinstance(v, str)
        }
        for key in (*ERRORS, "gradient_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-4)


def test_a_run_that_diverges_is_recorded_and_named():
    records = swap_rows("forces", springs(), normalizations=("none",), learning_rate=1e30, **{**QUICK, "epochs": 2})
    assert [record["epoch"] for record in records] == [0, 1, 2]
    assert not math.isfinite(records[-1]["test_error"])
    assert math.isnan(records[-1]["rotation"])
    found = final_errors(records, "test_error")["none"]
    assert (found.values, found.not_finite) == ({}, (0,))


def test_all_rows_have_their_turn():
    assert ("none", *TABLE1, *AFTER_2022, "GeometricNorm") == DEFAULT
    for preset in PRESETS.values():
        assert [*preset] == [*TARGETS]
        for sizes in preset.values():
            assert set(sizes["normalizations"]) <= set(DEFAULT)
    shipped = load_couplings("couplings")
    used = len(set(shipped.molecule.tolist()))
    assert all(sizes["couplings"]["train"] + sizes["couplings"]["test"] <= used for sizes in PRESETS.values())


def test_statistics_that_run_are_those_of_rows_that_evaluate_otherwise_than_they_train():
    live = {name for name in DEFAULT if has_running_statistics(Backbone(name, device="cpu", **TINY))}
    rows = {name: row for table in (TABLE1, AFTER_2022) for name, row in table.items()}
    assert live == {name for name, row in rows.items() if not row.properties.independent_train}


def test_processes_minimize_the_loss_of_all_their_pairs():
    task = problem("couplings", stretched_bonds(), 16, 8, 0.1)
    network = Backbone(readout="pairs", device="cpu", **TINY)
    errors = partial(errors_of_pairs, scale=task.settings["scale"])
    whole = errors(network, task.train_set.join([*range(8)]))["loss"][0]
    parts = [errors(network, task.train_set.join(share))["loss"] for share in ([0, 1], [2, 3, 4, 5, 6, 7])]
    together = sum(loss * number for loss, number in parts) / sum(number for _, number in parts)
    assert together.item() == pytest.approx(whole.item(), rel=1e-5)


TWO_PROCESSES = """
import os
from geonorm.experiments.swap import swap_rows
if __name__ == "__main__":
    model = dict(width=4, blocks=1, num_radial=4)
    options = dict(epochs=2, seeds=1, test=8, model=model, progress=False, devices=2, strategy="ddp")
    names = dict(normalizations=("none", "EquivariantBatchNorm"))
    swap_rows("forces", os.environ["SPRINGS"], train=20, batch_size=2, out=os.environ["OUT"], **names, **options)
    swap_rows("couplings", os.environ["BONDS"], train=16, batch_size=2, out=os.environ["OUT"] + "2", **names, **options)
"""


def test_two_processes_do_what_one_does_with_the_whole_batch(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    write_configurations(tmp_path / "springs.npz", springs())
    write_couplings(tmp_path / "bonds.npz", stretched_bonds())
    paths = {key.upper(): str(tmp_path / f"{key}.npz") for key in ("springs", "bonds")}
    environment = {**os.environ, **paths, "OUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True, timeout=300)
    options = {**QUICK, "epochs": 2, "batch_size": 4, "normalizations": ("none", "EquivariantBatchNorm")}
    for target, data, out, train in (("forces", springs(), "out", 20), ("couplings", stretched_bonds(), "out2", 16)):
        shared = read_records(tmp_path / out / "swap.csv")
        alone = swap_rows(target, data, **{**options, "train": train})
        for record, expected in zip(shared, alone, strict=True):
            for key in ("train_loss", "train_error", "test_error", "test_live_error", "gradient_norm"):
                assert record[key] == pytest.approx(expected[key], rel=2e-3), (target, key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "dipoles"}, "target is 'dipoles', expected one of forces, couplings"),
        ({"normalizations": ("none", "grafnorm")}, "grafnorm"),
        ({"seeds": 0}, "got 0 seeds"),
        ({"energy_weight": 1.5}, "energy_weight is 1.5"),
        ({"train": 100}, "asked for 100 training"),
        ({"data": "absent.npz"}, "no data named 'absent.npz'"),
        ({"model": {"width": 0}}, "width 0"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        swap_rows(**{"target": "forces", "data": springs(), **QUICK, "out": tmp_path / "out", **changes})
    assert not (tmp_path / "out").exists()


def test_what_rows_break_and_erase_where_they_stand():
    facts = row_facts(("none", "BatchNorm", "RMSNorm", "Allegro / MACE", "ScaledWeight", "PairNorm"))
    assert facts["none"] == {"matched": True, "broken": {}, "added": {}, "level": "node", "couples": False}
    assert set(facts["BatchNorm"]["broken"]) == {"rotation", "inversion", "sample independence"}
    # Four scalars and twelve components, of which each loses its mean and its size.
    assert facts["BatchNorm"]["added"] == {"shift per channel": 16, "scale per channel": 16}
    # One divisor for scalars and vectors of a node, of which there are 18.
    assert facts["RMSNorm"]["added"] == {"scale per node": 18}
    assert facts["Allegro / MACE"]["matched"]
    assert not facts["ScaledWeight"]["broken"]
    assert not facts["ScaledWeight"]["matched"]
    assert facts["PairNorm"]["level"] == "sample"
    known = {"RMSNorm": {"matched": "as it was"}}
    assert row_facts(["RMSNorm"], known)["RMSNorm"] == known["RMSNorm"]


@pytest.mark.parametrize("name", ["SchNet", "MessageNorm", "DensityNorm", "PerTypeScaleShift", "ScaleFactor", "EvNorm"])
def test_places_that_need_more_than_features_can_be_checked(name):
    report = check_in_place(name)
    assert not any(state.degenerate for state in report.states)
    assert report.matched == (name not in ("MessageNorm", "EvNorm"))


def test_the_command_trains_draws_and_can_be_repeated(tmp_path):
    write_configurations(tmp_path / "springs.npz", springs())
    words = ["reproduce", "swap", "--target", "forces", "--data", str(tmp_path / "springs.npz"), "--epochs", "1"]
    words += ["--seed", "3", "--normalization", "none", "--normalization", "Allegro / MACE", "--train", "20"]
    words += ["--test", "8", "--no-progress", *(part for k, v in TINY.items() for part in ("--model", f"{k}={v}"))]
    result = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "Allegro / MACE  seed 3" in result.output
    assert (tmp_path / "out/swap.png").read_bytes().startswith(b"\x89PNG")
    records = read_records(tmp_path / "out/swap.csv")
    assert len(records) == 4
    facts = json.loads((tmp_path / "out/swap.json").read_text())
    assert [*facts["targets"]] == ["forces"]
    assert facts["targets"]["forces"]["model"] == {**MODEL, **TINY}
    assert facts["rows"]["Allegro / MACE"]["matched"]
    again = shlex.split(facts["targets"]["forces"]["command"])[1:]
    result = CliRunner().invoke(main, [*again, "--no-progress", "--out", str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    assert same(read_records(tmp_path / "again/swap.csv"), records)


def test_the_command_refuses_one_set_for_two_targets(tmp_path):
    result = CliRunner().invoke(main, ["reproduce", "swap", "--data", "collisions", "--out", str(tmp_path / "x")])
    assert result.exit_code == 2
    assert "is a set of one target" in result.output
    result = CliRunner().invoke(
        main, ["reproduce", "swap", "--target", "forces", "--data", "absent", "--out", str(tmp_path / "x")]
    )
    assert (result.exit_code, result.output.startswith("Error: no data named 'absent'")) == (1, True)


def test_targets_are_gathered(tmp_path):
    swap_rows("forces", springs(), normalizations=("none",), out=tmp_path / "forces", **QUICK)
    swap_rows("couplings", stretched_bonds(), normalizations=("SchNet",), out=tmp_path / "couplings", **BONDS)
    records = gather(tmp_path)
    assert [(r["target"], r["normalization"]) for r in records[::2]] == [("forces", "none"), ("couplings", "SchNet")]
    assert same(read_records(tmp_path / "swap.csv"), records)
    assert {record["target"] for record in read_records(tmp_path / "swap-depth.csv")} == {"forces", "couplings"}
    facts = json.loads((tmp_path / "swap.json").read_text())
    assert {target: each["units"] for target, each in facts["targets"].items()} == {
        "forces": "eV, Ang",
        "couplings": "Hz",
    }
    assert "--target couplings" in facts["targets"]["couplings"]["command"]
    assert [*facts["rows"]] == ["none", "SchNet"]
    with pytest.raises(FileNotFoundError, match="holds no results"):
        gather(tmp_path / "empty")


def test_the_network_of_a_record_is_that_of_its_seed():
    zero, one = (
        swap_rows("forces", springs(), normalizations=("none",), **{**QUICK, "seeds": [s], "epochs": 0}) for s in (0, 1)
    )
    assert zero[0]["test_error"] != one[0]["test_error"]
    assert torch.equal(Backbone(seed=1, **TINY).embedding.weight, Backbone("RMSNorm", seed=1, **TINY).embedding.weight)
