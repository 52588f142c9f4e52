import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from data.bonds import stretched_bonds

from geonorm.data import Frames, load_uracil, write_couplings
from geonorm.experiments import figure1, figure2_schnet, layer_sizes, read_records
from geonorm.experiments.records import provenance, write_records
from geonorm.models.allegro import Allegro, Statistics, collate

pytest.importorskip("allegro")
pytest.importorskip("lightning")

TINY = {"num_scalars": 4, "num_tensors": 2, "num_layers": 1}
QUICK = {"epochs": 2, "seeds": 1, "train": 6, "test": 4, "batch_size": 3, "model": TINY, "progress": False}


@pytest.fixture(scope="module")
def springs() -> Frames:
    """Triangles of H2O on harmonic springs, with an offset of -100: everything about them is known."""
    rng = np.random.default_rng(0)
    rest = np.array([[0.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    positions = rest + 0.1 * rng.normal(size=(12, 3, 3))
    energies, forces = np.full(12, -100.0), np.zeros_like(positions)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        bond = positions[:, a] - positions[:, b]
        length = np.linalg.norm(bond, axis=-1)
        stretch = length - np.linalg.norm(rest[a] - rest[b])
        energies += 5 * stretch**2
        pull = (10 * stretch / length)[:, None] * bond
        forces[:, a] -= pull
        forces[:, b] += pull
    return Frames(np.array([8, 1, 1]), positions, energies, forces, name="springs")


def comparable(records: list[dict]) -> list[dict]:
    """Records as they look after a visit to a file, where floats keep seven digits."""
    return [{key: float(f"{v:.7g}") if isinstance(v, float) else v for key, v in r.items()} for r in records]


def test_one_record_for_each_run_and_epoch(springs):
    records = figure1(springs, normalizations=("all", "none"), **{**QUICK, "seeds": (0, 4)})
    runs = [(r["seed"], r["normalization"], r["epoch"]) for r in records]
    assert runs == [(seed, name, epoch) for seed in (0, 4) for name in ("all", "none") for epoch in range(3)]
    for record in records:
        assert record["units"] == "eV, Ang"
        for key in ("train_loss", "test_loss", "test_energy_mse", "test_force_mse", "gradient_norm"):
            assert np.isfinite(record[key])
            assert record[key] > 0


def test_errors_before_training_are_those_of_the_untrained_network(springs):
    (first, *_) = figure1(springs, normalizations=("no shift",), **QUICK)
    train, test = springs.split(6, 4)
    network = Allegro(springs.z, Statistics.of(train), "no shift", **TINY).eval()
    energies, forces = network(collate(network.graphs(test)))
    energy_mse = np.mean((energies.numpy() - test.energies) ** 2)
    force_mse = np.mean((forces.numpy().reshape(4, 3, 3) - test.forces) ** 2)
    assert first["test_energy_mse"] == pytest.approx(energy_mse, rel=1e-5)
    assert first["test_force_mse"] == pytest.approx(force_mse, rel=1e-5)
    assert first["test_loss"] == pytest.approx(energy_mse / 9 + force_mse, rel=1e-5)


def test_training_learns_and_repeats_itself(springs):
    options = {**QUICK, "epochs": 30, "normalizations": ("all",), "learning_rate": 1e-2}
    first, second = figure1(springs, **options), figure1(springs, **options)
    assert first == second
    assert first[-1]["test_loss"] < 0.5 * first[0]["test_loss"]


def test_units_change_the_numbers_by_their_square(springs):
    ev = figure1(springs, normalizations=("none",), **QUICK)[0]
    mev = figure1(springs, normalizations=("none",), energy_unit="meV", **QUICK)[0]
    # The first error of the unshifted network is the offset itself, in the square of the unit.
    assert mev["test_energy_mse"] / ev["test_energy_mse"] == pytest.approx(1e6, rel=0.05)
    assert mev["units"] == "meV, Ang"


def test_a_stopped_series_continues_without_repeating_a_finished_run(springs, tmp_path, monkeypatch):
    options = {**QUICK, "epochs": 3, "normalizations": ("all", "no shift")}
    whole = figure1(springs, **options)
    assert comparable(figure1(springs, out=tmp_path / "a", **options)) == comparable(whole)

    import geonorm.experiments.training as training

    original = training._Module.on_train_epoch_end
    stops = []

    def stop_once(module):
        original(module)
        if not stops and module.current_epoch == 1 and (tmp_path / "b/runs/all_seed0.csv").exists():
            stops.append(module.current_epoch)
            raise RuntimeError("power cut")

    monkeypatch.setattr(training._Module, "on_train_epoch_end", stop_once)
    with pytest.raises(RuntimeError, match="power cut"):
        figure1(springs, out=tmp_path / "b", **options)
    runs = tmp_path / "b" / "runs"
    assert sorted(path.name for path in runs.glob("*.csv")) == ["all_seed0.csv"]
    assert (runs / "no_shift_seed0" / "last.ckpt").exists()
    touched = (runs / "all_seed0.csv").stat().st_mtime_ns
    resumed = figure1(springs, out=tmp_path / "b", **options)
    assert (runs / "all_seed0.csv").stat().st_mtime_ns == touched
    assert comparable(resumed) == comparable(whole)
    assert comparable(read_records(tmp_path / "b" / "figure1.csv")) == comparable(whole)


def test_provenance_lets_a_reader_repeat_the_run(springs, tmp_path):
    figure1(springs, normalizations=("all",), out=tmp_path, **QUICK)
    facts = json.loads((tmp_path / "figure1.json").read_text())
    assert facts["command"] == (
        "geonorm reproduce figure1 --data springs --epochs 2 --train 6 --test 4 --seeds 1 --normalization all"
    )
    assert facts["device"] == "cpu"
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["seeds"] == [0]
    assert facts["units"] == "eV, Ang"
    assert facts["model"] == TINY
    assert (tmp_path / "runs/all_seed0/log/version_0/metrics.csv").read_text().count("\n") > 2


def test_a_folder_with_other_settings_is_not_mixed_in(springs, tmp_path):
    figure1(springs, normalizations=("all",), out=tmp_path, **QUICK)
    with pytest.raises(ValueError, match=r"other settings: epochs 2 \(now 5\).* Name another folder"):
        figure1(springs, normalizations=("all",), out=tmp_path, **{**QUICK, "epochs": 5})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizations": ("all", "nome")}, "unknown normalization 'nome'"),
        ({"seeds": 0}, "got 0 seeds"),
        ({"train": 10}, "12 frames"),
        ({"data": "absent.npz"}, "no data named 'absent.npz'"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(springs, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        figure1(**{"data": springs, **QUICK, "out": tmp_path / "out", **changes})
    assert not (tmp_path / "out").exists()


def test_training_is_silent_and_leaves_the_process_as_it_was(springs, capfd):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    filters = list(warnings.filters)
    figure1(springs, normalizations=("all",), **QUICK)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_default_dtype() == torch.float32
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")


TWO_PROCESSES = """
import os
from geonorm.data import load_uracil
from geonorm.experiments import figure1, figure2_schnet
if __name__ == "__main__":
    options = dict(epochs=1, seeds=1, train=8, test=4, batch_size=2, normalizations=("no shift",), progress=False)
    model = dict(num_scalars=4, num_tensors=2, num_layers=1)
    records = figure1(load_uracil()[:12], model=model, out=os.environ["OUT"], devices=2, strategy="ddp", **options)
    assert len(records) == 2
    options = dict(epochs=2, seeds=1, width=8, batch_size=3, normalizations=("batch", "none"), progress=False)
    where = dict(out=os.environ["OUT"] + "2", devices=2, strategy="ddp")
    records = figure2_schnet(os.environ["BONDS"], activations=("softplus",), **options, **where)
    assert len(records) == 6
"""


def test_two_processes_do_what_one_does_with_the_whole_batch(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    write_couplings(tmp_path / "bonds.npz", stretched_bonds())
    paths = {"OUT": str(tmp_path / "out"), "BONDS": str(tmp_path / "bonds.npz")}
    environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True, timeout=300)
    shared = read_records(tmp_path / "out" / "figure1.csv")
    options = {**QUICK, "epochs": 1, "train": 8, "test": 4, "normalizations": ("no shift",)}
    alone = figure1(load_uracil()[:12], **{**options, "batch_size": 4})
    for record, expected in zip(shared, alone, strict=True):
        for key in ("train_loss", "test_loss", "test_energy_mse", "test_force_mse"):
            assert record[key] == pytest.approx(expected[key], rel=1e-4)
    shared = read_records(tmp_path / "out2" / "figure2-schnet.csv")
    options = {"epochs": 2, "seeds": 1, "width": 8, "batch_size": 6, "progress": False}
    alone = figure2_schnet(stretched_bonds(), normalizations=("batch", "none"), activations=("softplus",), **options)
    for record, expected in zip(shared, alone, strict=True):
        for key in ("train_loss", "train_mae_1JHC", "gradient_norm"):
            assert record[key] == pytest.approx(expected[key], rel=1e-4)
        # A bias before BatchNorm has no gradient but rounding noise, which Adam turns into steps: running means follow.
        assert record["test_loss"] == pytest.approx(expected["test_loss"], rel=0.02)


def test_layer_sizes_are_those_of_the_tensors_themselves(springs):
    statistics = Statistics.of(springs)
    networks = {name: Allegro(springs.z, statistics, name) for name in ("all", "no shift", "no neighbors")}
    sizes = {name: layer_sizes(n, collate(n.graphs(springs))) for name, n in networks.items()}
    names = [record["layer"] for record in sizes["all"]]
    assert names[0] == "two-body MLP"
    assert names[-1] == "scale and shift"
    by_name = {name: {r["layer"]: r for r in records} for name, records in sizes.items()}
    # The shift acts after the last layer, so no activation before it can change.
    for layer in names[:-1]:
        assert by_name["all"][layer]["activation"] == by_name["no shift"][layer]["activation"]
    assert by_name["all"]["scale and shift"]["activation"] == pytest.approx(100 / 3, rel=0.1)
    # Two neighbours: without the average, the first environment sum grows by its root.
    average = statistics.avg_num_neighbors
    ratio = by_name["no neighbors"]["tensor product 1"]["activation"] / by_name["all"]["tensor product 1"]["activation"]
    assert ratio == pytest.approx(average**0.5, rel=1e-4)
    for name, network in networks.items():
        assert all(parameter.grad is None for parameter in network.parameters())
        batch = collate(network.graphs(springs))
        energies, forces = network(batch)
        error = (energies - batch["total_energy"].squeeze(-1)) / 3
        loss = error.square().mean() + (forces - batch["forces"]).square().mean()
        weights = list(network.network.model.func.edge_readout.parameters())
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
        expected = flat.double().square().mean().sqrt().item()
        assert by_name[name]["read-out MLP"]["weight_gradient"] == pytest.approx(expected, rel=1e-4)


def test_records_survive_a_file(tmp_path):
    records = [{"name": "no, shift", "epoch": 0, "loss": 1.5e14}, {"name": "all", "epoch": 1, "loss": float("nan")}]
    write_records(tmp_path / "r.csv", records)
    back = read_records(tmp_path / "r.csv")
    assert back[0] == records[0]
    assert back[1]["name"] == "all"
    assert np.isnan(back[1]["loss"])
    assert provenance("geonorm x", "cpu", seeds=[1])["seeds"] == [1]
