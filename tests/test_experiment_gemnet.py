import copy
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from data.springs import springs

import geonorm.experiments.gemnet_errors as gemnet_errors
from geonorm.cli import main
from geonorm.data import Configurations, write_configurations
from geonorm.experiments import figure2_gemnet, layer_sizes, read_records
from geonorm.experiments.element_energies import fit_element_energies, without_element_energies
from geonorm.experiments.gemnet import FITTED_ON, by_stage
from geonorm.experiments.gemnet_errors import QUANTITIES, StepClock, errors, in_training_mode
from geonorm.models.gemnet import GemNet

pytest.importorskip("lightning")

#: Fit the factors to few molecules in the other processes too.
PATCH = "import geonorm.experiments.gemnet\ngeonorm.experiments.gemnet.FITTED_ON = (2, 8)\n"
TINY = {"num_blocks": 1, "num_spherical": 2, "num_radial": 3, "num_concat": 0, "num_before_skip": 0}
TINY |= {f"{name}_channels": 8 for name in ("atom", "edge", "triplet", "bilinear", "rbf", "cbf")}
QUICK = {"epochs": 1, "seeds": 1, "train": 24, "test": 8, "batch_size": 8, "model": TINY, "progress": False}


@pytest.fixture(scope="module")
def coils() -> Configurations:
    return springs()


def comparable(records: list[dict]) -> list[dict]:
    """Records as they look after a visit to a file, where floats keep seven digits; without the time they took."""
    return [
        {key: f"{v:.7g}" if isinstance(v, float) else v for key, v in r.items() if key != "step_seconds"}
        for r in records
    ]


def by_hand(network: GemNet, part: Configurations) -> dict[str, float]:
    """The errors of a network on a whole set, in numpy."""
    batch = part.batch(range(len(part)))
    energies, forces = network(*batch[:3], len(part))
    energy = energies.detach().numpy() - part.energies
    force = forces.detach().numpy() - part.forces
    found = {
        "energy_mae": np.abs(energy).mean(),
        "energy_mse": (energy**2).mean(),
        "force_mae": np.sqrt((force**2).sum(1)).mean(),
        "force_mse": (force**2).mean(),
    }
    return found | {"loss": 0.1 * found["energy_mae"] + 0.9 * found["force_mae"]}


def values(found: dict, prefix: str = "") -> dict[str, float]:
    return {key: found[prefix + key][0].item() for key in ("loss", *QUANTITIES)}


def test_one_record_for_each_run_and_epoch(coils):
    records = figure2_gemnet(coils, normalizations=("fitted", "batch"), **{**QUICK, "seeds": (0, 4)})
    runs = [(r["seed"], r["normalization"], r["epoch"]) for r in records]
    assert runs == [(seed, name, epoch) for seed in (0, 4) for name in ("fitted", "batch") for epoch in range(2)]
    stages = [f"{stage}_{name}" for stage in ("train", "test", "test_live") for name in ("loss", *QUANTITIES)]
    assert [*records[0]] == [
        *("normalization", "seed", "epoch"),
        *stages,
        *("gradient_norm", "step_seconds", "units"),
    ]
    assert all(record["units"] == "eV, Ang" and record["gradient_norm"] > 0 for record in records)
    assert all(math.isfinite(record[key]) for record in records for key in stages)
    for record in records:
        assert math.isnan(record["step_seconds"]) if record["epoch"] == 0 else 0 < record["step_seconds"] < 60
        for name in ("loss", *QUANTITIES):
            # What differs in training mode is BatchNorm, and nothing else does.
            same = record[f"test_{name}"] == record[f"test_live_{name}"]
            assert same == (record["normalization"] == "fitted")
    rows = by_stage(records, "loss")
    assert [row["stage"] for row in rows[::8]] == ["training", "test", "test, live"]
    assert [row["loss"] for row in rows[16:]] == [record["test_live_loss"] for record in records]


def test_errors_before_training_are_those_of_the_untrained_network(coils, monkeypatch):
    # Batches of unequal sizes, whose molecules have unequal numbers of atoms.
    monkeypatch.setattr("geonorm.experiments.training.EVALUATION", 5)
    first = figure2_gemnet(coils, normalizations=("ones",), energy_weight=0.1, **{**QUICK, "epochs": 0})[0]
    train, test = coils.split(24, 8)
    network = GemNet("small", "ones", device="cpu", **TINY)
    constants = fit_element_energies(train)
    for stage, part in (("train", train), ("test", test)):
        expected = by_hand(network, without_element_energies(part, constants))
        assert {key: first[f"{stage}_{key}"] for key in expected} == pytest.approx(expected, rel=1e-5)
    raw = figure2_gemnet(
        coils, normalizations=("ones",), energy_weight=0.1, element_energies=False, **{**QUICK, "epochs": 0}
    )[0]
    assert raw["test_energy_mae"] == pytest.approx(by_hand(network, test)["energy_mae"], rel=1e-5)
    assert raw["test_energy_mae"] > 10 * first["test_energy_mae"]


def test_the_errors_of_a_batch_are_those_by_hand(coils):
    network = GemNet("small", "batch", device="cpu", **TINY)
    # Otherwise the running statistics would be those of no data.
    network(*coils.batch(range(20))[:3], 20)
    batch = coils.batch(range(8))
    training = errors(copy.deepcopy(network), batch, 0.1)
    assert values(training) == pytest.approx(by_hand(copy.deepcopy(network), coils[:8]), rel=1e-5)
    assert [training[key][1] for key in ("loss", *QUANTITIES)] == [8, 8, 8, *[coils.sizes[:8].sum()] * 2]
    training["loss"][0].backward()
    network.eval()
    evaluated = errors(network, batch, 0.1)
    assert values(evaluated) == pytest.approx(by_hand(network, coils[:8]), rel=1e-5)
    assert values(evaluated, "live_") == pytest.approx(values(training), rel=1e-5)
    assert evaluated["live_force_mae"][0] != pytest.approx(evaluated["force_mae"][0].item(), rel=0.05)


def test_live_predictions_leave_no_trace(coils):
    network = GemNet("small", "batch", device="cpu", **TINY).eval()
    before = copy.deepcopy(network.state_dict())
    with in_training_mode(network):
        assert all(module.training for module in network.modules())
        network(*coils.batch(range(8))[:3], 8)
        changed = network.state_dict()
        assert any(not torch.equal(changed[key], value) for key, value in before.items())
    assert not any(module.training for module in network.modules())
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_processes_minimize_the_loss_of_all_their_molecules_and_atoms(coils, monkeypatch):
    order = np.argsort(coils.sizes)
    shares = [order[:3], order[-9:]]
    network = GemNet("small", "ones", device="cpu", **TINY)
    whole = errors(network, coils.batch(np.concatenate(shares)), 0.1)["loss"][0]
    atoms = sum(coils.sizes[share].sum() for share in shares)
    monkeypatch.setattr(gemnet_errors, "several_processes", lambda: True)
    monkeypatch.setattr(gemnet_errors, "global_sum", lambda mine: torch.tensor([float(atoms), 12.0]))
    parts = [errors(network, coils.batch(share), 0.1)["loss"] for share in shares]
    assert [number for _, number in parts] == [3, 9]
    together = sum(loss * number for loss, number in parts) / 12
    assert together.item() == pytest.approx(whole.item(), rel=1e-5)


def test_constants_of_elements_are_found_and_subtracted(coils):
    # Springs at rest: what is left are the constants.
    atoms = {1: -3.0, 8: -70.0}
    energies = np.add.reduceat(np.vectorize(atoms.get)(coils.z), np.cumsum(coils.sizes) - coils.sizes)
    resting = Configurations(coils.sizes, coils.z, coils.positions, energies, coils.forces)
    assert fit_element_energies(resting) == pytest.approx(atoms)
    assert np.abs(without_element_energies(resting, atoms).energies).max() < 1e-9
    water = without_element_energies(resting, {8: -70.0})
    np.testing.assert_allclose(water.energies, -3.0 * np.add.reduceat(coils.z == 1, coils._starts), atol=1e-9)
    np.testing.assert_array_equal(without_element_energies(resting, {}).energies, energies)


def test_training_learns(coils):
    options = {**QUICK, "epochs": 6, "normalizations": ("fitted",), "learning_rate": 1e-2}
    first, *_, last = figure2_gemnet(coils, **options)
    assert last["train_force_mae"] < 0.7 * first["train_force_mae"]
    assert last["test_force_mae"] < 0.7 * first["test_force_mae"]


def test_a_stopped_series_continues_and_fits_factors_once(coils, tmp_path, monkeypatch):
    options = {**QUICK, "epochs": 2, "normalizations": ("batch", "no skip scaling")}
    whole = figure2_gemnet(coils, **options)
    fits = counted_fits(monkeypatch)
    stopped = stop_after_first_epoch(monkeypatch, number_of_run=2)
    with pytest.raises(RuntimeError, match="power cut"):
        figure2_gemnet(coils, out=tmp_path, **options)
    assert stopped
    assert (tmp_path / "runs/no_skip_scaling_seed0/last.ckpt").exists()
    finished = tmp_path / "runs/batch_seed0.csv"
    touched = finished.stat().st_mtime_ns
    resumed = figure2_gemnet(coils, out=tmp_path, **options)
    assert finished.stat().st_mtime_ns == touched
    assert comparable(resumed) == comparable(whole)
    assert comparable(read_records(tmp_path / "figure2-gemnet.csv")) == comparable(whole)
    # Of the run with factors once, on the whole training set, which makes one batch.
    assert fits == [[24]]
    facts = json.loads((tmp_path / "figure2-gemnet.json").read_text())
    network = GemNet("small", "no skip scaling", device="cpu", **TINY)
    train, _ = coils.split(24, 8)
    factors = network.fit([(*train.batch(range(24))[:3], 24)])
    assert facts["scale_factors"] == {"no_skip_scaling_seed0": factors}
    assert (facts["train"], facts["test"], facts["size"], facts["model"]) == (24, 8, "small", TINY)
    assert [*facts["element_energies"]] == ["H", "O"]
    assert "--normalization batch --normalization 'no skip scaling'" in facts["command"]
    with pytest.raises(ValueError, match=r"other settings: batch_size 8 \(now 4\)"):
        figure2_gemnet(coils, out=tmp_path, **{**options, "batch_size": 4})


def test_depth_and_symmetry_are_measured_and_survive_a_stop(coils, tmp_path, monkeypatch):
    options = {**QUICK, "epochs": 2, "normalizations": ("fitted", "batch")}
    figure2_gemnet(coils, out=tmp_path / "whole", **options)
    stop_after_first_epoch(monkeypatch, number_of_run=1)
    with pytest.raises(RuntimeError, match="power cut"):
        figure2_gemnet(coils, out=tmp_path / "stopped", **options)
    figure2_gemnet(coils, out=tmp_path / "stopped", **options)
    for kind in ("depth", "symmetry"):
        whole, stopped = (
            read_records(tmp_path / folder / f"figure2-gemnet-{kind}.csv") for folder in ("whole", "stopped")
        )
        assert comparable(stopped) == comparable(whole)
    depth = read_records(tmp_path / "whole/figure2-gemnet-depth.csv")
    train = without_element_energies(coils.split(24, 8)[0], fit_element_energies(coils.split(24, 8)[0]))
    network = GemNet("small", "batch", device="cpu", **TINY)
    expected = layer_sizes(network, train.batch(range(8)))
    found = [r for r in depth if (r["normalization"], r["seed"], r["epoch"]) == ("batch", 0, 0)]
    assert [r["layer"] for r in found] == [r["layer"] for r in expected]
    assert [r["variance"] for r in found] == pytest.approx([r["variance"] for r in expected], rel=1e-4)
    last = [r["variance"] for r in depth if (r["normalization"], r["epoch"]) == ("batch", 2)]
    assert len(last) == len(found)
    assert last != pytest.approx([r["variance"] for r in found], rel=1e-3)
    symmetry = read_records(tmp_path / "whole/figure2-gemnet-symmetry.csv")
    for record in symmetry:
        coupled = record["normalization"] == "batch" and record["mode"] == "training"
        assert (record["coupling"] > 1e-3) == coupled
        assert max(record[key] for key in ("rotation", "inversion", "permutation")) < 1e-9


TWO_PROCESSES = """
import json, os
from geonorm.experiments import figure2_gemnet
if __name__ == "__main__":
    options = json.loads(os.environ["OPTIONS"])
    figure2_gemnet(os.environ["DATA"], out=os.environ["OUT"], devices=2, strategy="ddp", **options)
"""


def test_two_processes_do_what_one_does_with_the_whole_batch(coils, tmp_path, monkeypatch):
    monkeypatch.setattr("geonorm.experiments.gemnet.FITTED_ON", (2, 8))
    write_configurations(tmp_path / "springs.npz", coils)
    (tmp_path / "script.py").write_text(TWO_PROCESSES.replace("if __name__", PATCH + "if __name__"))
    options = {**QUICK, "epochs": 2, "normalizations": ["fitted", "batch"], "batch_size": 4}
    paths = {"OUT": str(tmp_path / "shared"), "DATA": str(tmp_path / "springs.npz"), "OPTIONS": json.dumps(options)}
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, tmp_path / "script.py"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    alone = figure2_gemnet(coils, out=tmp_path / "alone", **{**options, "batch_size": 8})
    shared = read_records(tmp_path / "shared/figure2-gemnet.csv")
    kept = ("gradient_norm", *(key for key in shared[0] if key.startswith(("train_", "test_"))))
    assert len(shared) == len(alone) == 6
    for record, expected in zip(shared, alone, strict=True):
        assert {key: record[key] for key in kept} == pytest.approx({key: expected[key] for key in kept}, rel=1e-3)
    factors = [json.loads((tmp_path / f"{how}/figure2-gemnet.json").read_text()) for how in ("shared", "alone")]
    one, other = (of_run["scale_factors"]["fitted_seed0"] for of_run in factors)
    assert one == pytest.approx(other, rel=1e-5)
    assert len(one) == 5


def counted_fits(monkeypatch) -> list[list[int]]:
    """How many molecules had the batches of each fit."""
    fits, fit = [], GemNet.fit

    def counting(network: GemNet, batches: list) -> dict[str, float]:
        fits.append([batch[3] for batch in batches])
        return fit(network, batches)

    monkeypatch.setattr(GemNet, "fit", counting)
    return fits


def stop_after_first_epoch(monkeypatch, number_of_run: int) -> list[int]:
    """Let training fail once, after the first epoch of a run and its checkpoint."""
    import geonorm.experiments.training as training

    original: Callable = training._Module.on_train_epoch_end
    firsts, stops = [], []

    def stop_once(module):
        original(module)
        firsts.extend([module.current_epoch] * (module.current_epoch == 0))
        if len(firsts) == number_of_run and module.current_epoch == 1 and not stops:
            stops.append(number_of_run)
            raise RuntimeError("power cut")

    monkeypatch.setattr(training._Module, "on_train_epoch_end", stop_once)
    return stops


def test_factors_are_fitted_to_the_first_batches(coils, monkeypatch):
    assert FITTED_ON == (25, 32)
    monkeypatch.setattr("geonorm.experiments.gemnet.FITTED_ON", (2, 8))
    fits = counted_fits(monkeypatch)
    figure2_gemnet(coils, normalizations=("fitted", "ones"), **{**QUICK, "epochs": 0})
    # However many make a step: two processes with half as many find the same factors.
    figure2_gemnet(coils, normalizations=("fitted",), **{**QUICK, "epochs": 0, "train": 12, "batch_size": 3})
    assert fits == [[8, 8], [8, 4]]


def test_the_clock_leaves_out_evaluation(monkeypatch):
    times = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr(gemnet_errors.time, "perf_counter", lambda: next(times))
    network, batch = GemNet("small", "ones", device="cpu", **TINY), springs().batch([0])
    clock = StepClock(lambda network, batch, weight: {}, 0.1)
    assert clock(network, batch)["step_seconds"] == (0.0, 0)
    assert clock(network, batch)["step_seconds"] == (2.0, 1)
    assert clock(network.eval(), batch) == {}
    assert clock(network.train(), batch)["step_seconds"] == (0.0, 0)
    assert clock(network, batch)["step_seconds"] == (0.5, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizations": ("fitted", "grafnorm")}, "unknown normalization 'grafnorm'"),
        ({"seeds": 0}, "got 0 seeds"),
        ({"energy_weight": 1.5}, "energy_weight is 1.5"),
        ({"size": "huge"}, "unknown size 'huge'"),
        ({"model": {"num_blokcs": 1}}, "unknown sizes"),
        ({"train": 100}, "asked for 100 training"),
        ({"data": "absent.npz"}, "no data named 'absent.npz'"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(coils, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        figure2_gemnet(**{"data": coils, **QUICK, "out": tmp_path / "out", **changes})
    assert not (tmp_path / "out").exists()


def test_the_command_trains_draws_and_can_be_repeated(coils, tmp_path):
    write_configurations(tmp_path / "springs.npz", coils)
    words = ["reproduce", "figure2-gemnet", "--data", str(tmp_path / "springs.npz"), "--epochs", "1", "--seed", "3"]
    words += ["--normalization", "batch", "--train", "24", "--test", "8", "--raw-energies"]
    words += [part for key, value in TINY.items() for part in ("--model", f"{key}={value}")]
    words += ["--batch-size", "8", "--no-progress"]
    result = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "batch  seed 3" in result.output
    assert (tmp_path / "out/figure2-gemnet.png").read_bytes().startswith(b"\x89PNG")
    records = read_records(tmp_path / "out/figure2-gemnet.csv")
    assert len(records) == 2
    facts = json.loads((tmp_path / "out/figure2-gemnet.json").read_text())
    assert facts["element_energies"] == {}
    again = [*shlex.split(facts["command"])[1:], "--no-progress", "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(main, again).exit_code == 0
    assert comparable(read_records(tmp_path / "again/figure2-gemnet.csv")) == comparable(records)
    result = CliRunner().invoke(main, ["reproduce", "figure2-gemnet", "--data", "absent", "--out", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: no data named 'absent'")
