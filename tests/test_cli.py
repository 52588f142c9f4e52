import importlib
import inspect
import subprocess
import sys

import pytest
from click.testing import CliRunner

import geonorm
from geonorm.cli import main
from geonorm.cli.reproduce.options import settings

#: What every experiment offers.
COMMON = ("--data", "--preset", "--epochs", "--seeds", "--seed", "--normalization", "--device", "--out", "--progress")


def invoke(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


def test_help_of_every_command_names_what_it_does():
    for command, words in {
        (): ("data", "reproduce", "table"),
        ("data",): ("uracil",),
        ("data", "uracil"): ("--out", "--frames"),
        ("reproduce",): ("figure1",),
        ("reproduce", "figure1"): (*COMMON, "--train", "--test", "--energy-unit"),
        ("reproduce", "figure2-schnet"): (*COMMON, "--activation", "--same-size"),
        ("reproduce", "figure2-gemnet"): (*COMMON, "--size", "--model"),
        ("reproduce", "swap"): (*COMMON, "--target", "--model"),
    }.items():
        result = invoke(*command, "--help")
        assert result.exit_code == 0
        assert all(word in result.output for word in words)


def test_table_prints_every_row():
    result = invoke("table")
    assert result.exit_code == 0
    assert all(name in result.output for name in geonorm.TABLE1)


def test_table_prints_the_layers_that_table_1_does_not_have():
    result = invoke("table", "--after-2022")
    assert result.exit_code == 0
    assert result.output.splitlines() == repr(geonorm.AFTER_2022).splitlines()
    assert "EquivariantBatchNorm" in result.output
    assert "GraphSizeNorm" not in result.output


def test_table_prints_single_rows_of_either_table_and_variants():
    result = invoke("table", "graph_norm", "EGAN", "RMSNorm")
    assert result.exit_code == 0
    first, second, third = result.output.split("\n\n")
    assert first.splitlines()[0] == "GraphNorm"
    assert "\\frac{\\mathcal A-\\alpha" in first
    assert "cai2021graphnorm" in first
    assert "mean of the scalars over nodes and channels" in second
    assert "not in Table 1" in third


def test_table_names_the_nearest_row_of_a_name_that_is_unknown():
    result = invoke("table", "grafnorm")
    assert result.exit_code == 1
    assert result.output.startswith("Error: no normalization layer is called 'grafnorm': try 'GraphNorm'")
    assert len(result.output.splitlines()) == 1


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from geonorm.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'lightning', 'nequip', 'ase', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_uracil_is_made(tmp_path):
    pytest.importorskip("tblite")
    out = tmp_path / "u.npz"
    options = ("--frames", "2", "--seeds", "2", "--stride", "1", "--warmup", "1")
    result = invoke("data", "uracil", "--out", str(out), *options)
    assert result.exit_code == 0, result.output
    assert "2 frames, H4C4N2O2, eV, Ang" in result.output
    assert out.exists()


def test_figure1_writes_numbers_and_where_they_come_from(tmp_path):
    pytest.importorskip("allegro")
    options = ("--epochs", "1", "--seed", "2", "--train", "5", "--test", "5", "--normalization", "all", "--no-progress")
    result = invoke("reproduce", "figure1", *options, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "seed 2" in result.output
    assert (tmp_path / "figure1.csv").read_text().startswith("normalization,seed,epoch,train_loss,test_loss")
    assert "--seed 2 --normalization all" in (tmp_path / "figure1.json").read_text()
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")
    assert f"{tmp_path / 'figure1.png'}" in result.output.splitlines()[-1]


@pytest.mark.parametrize("name", ["figure1", "figure2_schnet", "figure2_gemnet"])
def test_a_preset_gives_arguments_of_the_experiment_and_quick_asks_for_less(name):
    pytest.importorskip("allegro")
    experiment = getattr(importlib.import_module("geonorm.experiments"), name)
    presets = importlib.import_module(experiment.__module__).PRESETS
    assert set(presets) == {"quick", "full"}
    assert all(set(preset) <= set(inspect.signature(experiment).parameters) for preset in presets.values())
    assert presets["quick"]["epochs"] < presets["full"]["epochs"]


def test_options_change_a_preset_only_where_they_were_given():
    preset = {"epochs": 4, "seeds": 1, "same_size": True}
    assert settings(preset, None, (), (), epochs=None) == preset
    assert settings(preset, 2, (), ("none",), epochs=0, same_size=False) == {
        "epochs": 0,
        "seeds": 2,
        "normalizations": ("none",),
        "same_size": False,
    }
    assert settings(preset, 2, (5, 7), ())["seeds"] == [5, 7]


def test_a_mistake_is_one_line_and_no_traceback(tmp_path):
    result = invoke("reproduce", "figure1", "--data", "absent.npz", "--out", str(tmp_path / "x"))
    assert result.exit_code == 1
    assert result.output.startswith("Error: no data named 'absent.npz'")
    assert "Traceback" not in result.output
