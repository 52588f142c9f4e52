"""``geonorm check`` on the command line: the verdict is the exit status, and mistakes have another."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from geonorm.cli import main


def invoke(*arguments: str):
    return CliRunner().invoke(main, ["check", *arguments])


def test_a_match_exits_with_zero() -> None:
    result = invoke("geonorm:AverageNeighborNorm", "8", "12.0", "--inputs", "8x0e")
    assert result.exit_code == 0, result.output
    assert "is a geometric match for the task 'energy'" in result.output


def test_a_layer_that_is_no_match_exits_with_one() -> None:
    result = invoke("geonorm:BatchNorm", "8", "--inputs", "8x0e", "--option", "eps=1e-6")
    assert result.exit_code == 1
    assert "sample independence" in result.output


def test_the_task_decides() -> None:
    arguments = ("geonorm:InstanceNorm", "8", "--inputs", "8x0e")
    assert invoke(*arguments).exit_code == 1
    assert invoke(*arguments, "--task", "image style").exit_code == 0


def test_a_module_of_the_working_folder_and_a_report_as_json(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text("def half():\n    return lambda v: v / 2 if v.ndim == 3 else 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    result = invoke("mine:half", "--inputs", "4x1o", "--vectors", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["level"] == "node"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("geonorm", "--inputs", "8x0e"), "expected module:Class"),
        (("nowhere:Norm", "--inputs", "8x0e"), "is 'nowhere' installed, or in this folder?"),
        (("geonorm:NoNorm", "--inputs", "8x0e"), "module 'geonorm' has no 'NoNorm'"),
        (("geonorm:BatchNorm", "8", "--inputs", "8x0e", "--task", "colour"), "no task is called 'colour': choose one"),
        (("geonorm:BatchNorm", "8", "--inputs", "8y0e"), "neither a number of scalar channels nor irreps"),
        (("geonorm:BatchNorm", "8", "--inputs", "8x0e", "--option", "eps"), "expected name=value"),
        (("geonorm:BatchNorm", "--inputs", "8x0e"), "missing .* argument"),
        (("geonorm:BatchNorm", "6", "--inputs", "8x0e"), r"x has shape \[9, 8\]"),
    ],
)
def test_a_mistake_exits_with_two_and_says_what_is_wrong(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert re.search(message, result.output)


def test_recommend_lists_matches_and_reasons() -> None:
    result = CliRunner().invoke(main, ["recommend", "forces", "--vectors"])
    assert result.exit_code == 0, result.output
    matches, _, others = result.output.partition("No matches:")
    assert "Allegro / MACE" in matches
    assert "BatchNorm: on vector columns it breaks rotations" in others
    assert CliRunner().invoke(main, ["recommend", "colour"]).exit_code == 2
