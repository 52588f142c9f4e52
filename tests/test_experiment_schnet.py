import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from data.bonds import stretched_bonds

from geonorm import viz
from geonorm.cli import main
from geonorm.data import Couplings
from geonorm.experiments import figure2_schnet, layer_sizes, read_records
from geonorm.experiments.batches import Batches, SameSize
from geonorm.experiments.schnet import errors
from geonorm.models.schnet import CouplingSchNet

pytest.importorskip("lightning")

QUICK = {"epochs": 2, "seeds": 1, "width": 8, "batch_size": 4, "activations": ("softplus",), "progress": False}


@pytest.fixture(scope="module")
def stretched() -> Couplings:
    return stretched_bonds()


def comparable(records: list[dict]) -> list[dict]:
    """Records as they look after a visit to a file, where floats keep seven digits."""
    return [{key: f"{v:.7g}" if isinstance(v, float) else v for key, v in r.items()} for r in records]


def test_one_record_for_each_run_and_epoch(stretched):
    options = {**QUICK, "seeds": (0, 4), "activations": ("softplus", "shifted softplus"), "epochs": 1}
    records = figure2_schnet(stretched, normalizations=("none", "batch"), **options)
    runs = [(r["seed"], r["activation"], r["normalization"], r["epoch"]) for r in records]
    pairs = [(sigma, name) for sigma in ("softplus", "shifted softplus") for name in ("none", "batch")]
    assert runs == [(seed, *pair, epoch) for seed in (0, 4) for pair in pairs for epoch in range(2)]
    assert {key for key in records[0] if "mae_" in key and "log" not in key} == {
        f"{stage}_mae_{kind}" for stage in ("train", "test") for kind in ("1JHC", "1JHN", "2JHH")
    }
    assert all(record["units"] == "Hz" and record["gradient_norm"] > 0 for record in records)


def test_errors_before_training_are_those_of_the_untrained_network(stretched, monkeypatch):
    # Batches of unequal sizes and with unequal numbers of each type.
    monkeypatch.setattr("geonorm.experiments.training.EVALUATION", 5)
    first = figure2_schnet(stretched, normalizations=("none",), test=0.5, **QUICK)[0]
    _, test = stretched.split(12, 12)
    network = CouplingSchNet("none", channels=8)
    with torch.no_grad():
        found = network(*test.batch(range(12))[:5]).numpy()
    difference = found - test.contributions
    constant = np.abs(difference.sum(1))
    assert first["test_loss"] == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    assert first["test_mse"] == pytest.approx((difference**2).mean(), rel=1e-5)
    assert first["test_mae"] == pytest.approx(constant.mean(), rel=1e-5)
    by_type = [constant[test.types == kind].mean() for kind in range(3)]
    assert [first[f"test_mae_{kind}"] for kind in ("1JHC", "1JHN", "2JHH")] == pytest.approx(by_type, rel=1e-5)
    assert first["test_log_mae"] == pytest.approx(np.log(by_type).mean(), rel=1e-5)


def test_the_loss_is_that_of_all_couplings_however_they_are_batched(stretched):
    network = CouplingSchNet("none", channels=8)
    whole = errors(network, stretched.batch(range(24)))
    parts = [errors(network, stretched.batch(chosen)) for chosen in (range(7), range(7, 24))]
    for name, (value, number) in whole.items():
        assert sum(part[name][1] for part in parts) == number
        total = sum(part[name][0].item() * part[name][1] for part in parts)
        assert total == pytest.approx(value.item() * number, rel=1e-5)


def test_training_learns(stretched):
    options = {**QUICK, "epochs": 8, "normalizations": ("batch",), "learning_rate": 3e-2}
    first, *_, last = figure2_schnet(stretched, **options)
    assert last["train_loss"] < 0.75 * first["train_loss"]
    assert last["test_loss"] < 0.75 * first["test_loss"]


def test_the_learning_rate_decays_by_the_epoch(stretched):
    # With a rate that is next to nothing after the first epoch, the second one changes next to nothing.
    options = {**QUICK, "normalizations": ("none",), "decay": 1e-9}
    _, one, two = figure2_schnet(stretched, **options)
    assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-6)
    _, one, two = figure2_schnet(stretched, **{**options, "decay": 1.0})
    assert two["test_loss"] != pytest.approx(one["test_loss"], rel=1e-4)


def test_a_stopped_series_continues_without_repeating_a_finished_run(stretched, tmp_path, monkeypatch):
    options = {**QUICK, "epochs": 3, "normalizations": ("none", "batch frozen"), "freeze_after": 7}
    whole = figure2_schnet(stretched, **options)

    import geonorm.experiments.training as training

    original, stops = training._Module.on_train_epoch_end, []

    def stop_once(module):
        original(module)
        if not stops and module.current_epoch == 1 and (tmp_path / "runs/none_softplus_seed0.csv").exists():
            stops.append(module.current_epoch)
            raise RuntimeError("power cut")

    monkeypatch.setattr(training._Module, "on_train_epoch_end", stop_once)
    with pytest.raises(RuntimeError, match="power cut"):
        figure2_schnet(stretched, out=tmp_path, **options)
    finished = tmp_path / "runs/none_softplus_seed0.csv"
    touched = finished.stat().st_mtime_ns
    resumed = figure2_schnet(stretched, out=tmp_path, **options)
    assert finished.stat().st_mtime_ns == touched
    assert comparable(resumed) == comparable(whole)
    kept = [read_records(tmp_path / f"figure2-schnet-{kind}.csv") for kind in ("depth", "symmetry")]
    assert [len({record["normalization"] for record in records}) for records in kept] == [2, 2]
    assert comparable(read_records(tmp_path / "figure2-schnet.csv")) == comparable(whole)
    facts = json.loads((tmp_path / "figure2-schnet.json").read_text())
    assert facts["command"] == (
        "geonorm reproduce figure2-schnet --data bonds --preset full --epochs 3 --seeds 1 --normalization none "
        "--normalization 'batch frozen' --activation softplus --width 8 --batch-size 4"
    )
    assert (facts["train"], facts["test"], facts["norm_options"]) == (22, 2, {"batch frozen": {"freeze_after": 7}})
    with pytest.raises(ValueError, match=r"other settings: width 8 \(now 16\)"):
        figure2_schnet(stretched, out=tmp_path, **{**options, "width": 16})


def test_activations_gradients_and_symmetries_of_every_run_are_kept(stretched, tmp_path):
    names = ("batch", "none")
    figure2_schnet(stretched, out=tmp_path, normalizations=names, **{**QUICK, "seeds": (3, 1)})
    depth = read_records(tmp_path / "figure2-schnet-depth.csv")
    train_set, _ = stretched.split(22, 2)
    untrained = CouplingSchNet("batch", channels=8, seed=3)
    expected = layer_sizes(untrained, train_set.batch(range(16)))
    assert {(r["normalization"], r["seed"], r["epoch"]) for r in depth} == {
        (name, seed, epoch) for name in names for seed in (3, 1) for epoch in (0, 2)
    }
    found = [r for r in depth if (r["normalization"], r["seed"], r["epoch"]) == ("batch", 3, 0)]
    assert [r["layer"] for r in found] == [r["layer"] for r in expected]
    assert {r["activation"] for r in depth} == {"softplus"}
    for key, column in (("activation", "activation_size"), ("weight_gradient", "weight_gradient")):
        assert [r[column] for r in found] == pytest.approx([r[key] for r in expected], rel=1e-5)
    trained = [r for r in depth if (r["normalization"], r["seed"], r["epoch"]) == ("batch", 3, 2)]
    assert [r["activation_size"] for r in trained] != pytest.approx([r["activation_size"] for r in found], rel=1e-3)
    symmetry = read_records(tmp_path / "figure2-schnet-symmetry.csv")
    assert len(symmetry) == 2 * 2 * 2
    for record in symmetry:
        assert (record["activation"], record["epoch"], record["output"]) == ("softplus", 2, "values")
        assert max(record[error] for error in ("rotation", "inversion", "permutation")) < 1e-10
        # Only BatchNorm lets a molecule feel others, and only while its statistics are live.
        assert (record["coupling"] > 1e-4) == (record["normalization"] == "batch" and record["mode"] == "training")


def test_two_molecules_are_too_few_to_ask_for_mates(stretched, tmp_path):
    figure2_schnet(stretched[:3], out=tmp_path, normalizations=("none",), **{**QUICK, "epochs": 0})
    assert {record["epoch"] for record in read_records(tmp_path / "figure2-schnet-depth.csv")} == {0}
    assert not (tmp_path / "figure2-schnet-symmetry.csv").exists()


def test_frozen_batch_norm_is_live_until_it_freezes(stretched):
    names = ("batch", "batch frozen")
    records = figure2_schnet(stretched, normalizations=names, freeze_after=6, **QUICK)
    live, frozen = ([r for r in records if r["normalization"] == name] for name in names)
    # Six batches make the first epoch.
    assert live[1]["train_loss"] == frozen[1]["train_loss"]
    assert live[2]["train_loss"] != frozen[2]["train_loss"]


def test_batches_hold_molecules_of_one_size_and_every_epoch_deals_anew():
    sizes = [3] * 9 + [5] * 4 + [7] * 3
    batches = SameSize(sizes, 4, seed=1)
    epochs = []
    for epoch in range(30):
        batches.set_epoch(epoch)
        drawn = list(batches)
        assert len(drawn) == len(batches) == 3
        assert sorted([*{sizes[i] for i in batch}] for batch in drawn) == [[3], [3], [5]]
        assert all(len(set(batch)) == 4 for batch in drawn)
        epochs.append(drawn)
    assert epochs[0] != epochs[1]
    # The one that is left over is another one in another epoch, and the small batches do not always come last.
    assert set(range(13)) == {i for drawn in epochs for batch in drawn for i in batch}
    assert len({tuple(sizes[batch[0]] for batch in drawn) for drawn in epochs}) == 3
    with pytest.raises(ValueError, match="no size has 10 samples, the commonest has 9: choose a smaller batch_size"):
        SameSize(sizes, 10)


def test_processes_share_the_batches_of_one(monkeypatch):
    alone = Batches(11, 4, seed=3)
    alone.set_epoch(2)
    monkeypatch.setattr("geonorm.experiments.batches.several_processes", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        mine = Batches(11, 2, seed=3)
        mine.set_epoch(2)
        shares.append(list(mine))
    monkeypatch.undo()
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in alone]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizations": ("batch", "grafnorm")}, "no normalization layer is called 'grafnorm'"),
        ({"activations": ("relu",)}, "activation is 'relu'"),
        ({"seeds": 0}, "got 0 seeds"),
        ({"molecules": 25}, "bonds has 24 molecules with couplings, 25 are needed"),
        ({"same_size": True, "batch_size": 20}, "no size has 20 samples"),
        ({"data": "absent.npz"}, "no couplings named 'absent.npz'"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(stretched, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        figure2_schnet(**{"data": stretched, **QUICK, "out": tmp_path / "out", **changes})
    assert not (tmp_path / "out").exists()


def test_the_command_trains_and_draws(stretched, tmp_path):
    from geonorm.data import write_couplings

    write_couplings(tmp_path / "bonds.npz", stretched)
    words = ["--epochs", "1", "--seed", "3", "--normalization", "none", "--normalization", "batch", "--same-size"]
    words += ["--width", "8", "--molecules", "24", "--batch-size", "4", "--no-progress", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["reproduce", "figure2-schnet", "--data", str(tmp_path / "bonds.npz"), *words])
    assert result.exit_code == 0, result.output
    assert "shifted softplus, batch  seed 3" in result.output
    assert (tmp_path / "out/figure2-schnet.png").read_bytes().startswith(b"\x89PNG")
    assert "--seed 3" in (tmp_path / "out/figure2-schnet.json").read_text()
    assert len(read_records(tmp_path / "out/figure2-schnet.csv")) == 8
    result = CliRunner().invoke(main, ["reproduce", "figure2-schnet", "--data", "absent", "--out", str(tmp_path / "x")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: no couplings named 'absent'")


def test_curves_show_the_median_of_the_seeds_and_leave_out_what_is_not_finite():
    records = [
        {"normalization": name, "sigma": sigma, "seed": seed, "epoch": epoch, "loss": (seed + 1.0) / (epoch + 1)}
        for name in ("none", "batch")
        for sigma in ("a", "b")
        for seed in range(3)
        for epoch in range(3)
    ]
    records[1]["loss"] = math.nan  # none, a, seed 0
    fig = viz.curves(records, "loss", "Errors fall", "error (Hz)", "sigma")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["a", "b"]
    none, batch = fig.axes[0].lines
    np.testing.assert_allclose(none.get_ydata(), [2.5, 1.25, 2.5 / 3])
    np.testing.assert_allclose(batch.get_ydata(), [2, 1, 2 / 3])
    words = viz.alt_curves(records, "loss", "Errors fall", "error (Hz)", "sigma")
    assert words.count("Line chart") == 2
    assert "none: from 2.5 to 0.83" in words
    with pytest.raises(ValueError, match="nothing to draw"):
        viz.curves([{**record, "loss": math.inf} for record in records], "loss", "Errors", "error (Hz)")
