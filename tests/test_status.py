"""The status page says of every notebook what it cost, and of every long run where it comes from."""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
COST = {"cpu_seconds": 90, "memory_mb": 510.0, "kilobytes": 33, "date": "2026-11-28", "python": "3.11.7"}


@pytest.fixture(scope="module")
def status():
    spec = importlib.util.spec_from_file_location("status", ROOT / "book" / "_ext" / "status.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    for folder in ("notebooks", "book/results"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("notebooks/02_b", "notebooks/01_a", "book/errata"):
        cells = [nbformat.v4.new_markdown_cell(f"# Title of {name[-1]}: and more\n\nText.")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    return tmp_path


def test_every_notebook_has_its_line_and_the_sum_is_theirs(status, root):
    costs = {name: COST | {"versions": {"torch": "2.13.0"}} for name in ("01_a", "02_b", "errata", "gone")}
    (root / "book/results/notebooks.json").write_text(json.dumps(costs))
    lines = status.notebook_costs(root).splitlines()
    assert lines[1] == "| :-- | --: | --: | --: |"
    assert lines[2] == "| {doc}`Title of a </notebooks/01_a>` | 90 | 510 | 33 |"
    assert [re.findall("<(.*)>", line) for line in lines[2:5]] == [
        ["/notebooks/01_a"],
        ["/notebooks/02_b"],
        ["/book/errata"],
    ]
    # Three notebooks of a minute and a half; one that is no longer there does not count.
    assert lines[-1] == "All together need 4 minutes of one core. Executed 2026-11-28; Python 3.11.7, torch 2.13.0."


def test_a_notebook_without_its_cost_is_named(status, root):
    (root / "book/results/notebooks.json").write_text(json.dumps({"01_a": COST | {"versions": {}}}))
    with pytest.raises(ValueError, match=r"02_b\.ipynb is not in .*: execute it"):
        status.notebook_costs(root)


def test_a_long_run_says_where_it_comes_from_and_how_to_repeat_it(status, root):
    facts = {"command": "geonorm reproduce figure1", "device": "cpu", "processor": "a processor", "seeds": [0, 1]}
    facts |= {"date": "2026-11-22", "versions": {"torch": "2.13.0"}}
    (root / "book/results/figure1.json").write_text(json.dumps(facts))
    (root / "book/results/notebooks.json").write_text("{}")
    assert status.long_runs(root) == (
        "**figure1**: CPU (a processor), 2026-11-22, seeds 0, 1; torch 2.13.0.\n\n"
        "```bash\ngeonorm reproduce figure1\n```"
    )


def test_every_result_of_the_repository_can_be_shown(status):
    files = [path for path in (ROOT / "book/results").glob("*.csv") if path.with_suffix(".json").exists()]
    text = status.long_runs(ROOT)
    assert files
    assert all(f"**{path.stem}**" in text or f"**{path.stem}, " in text for path in files)


def test_an_experiment_on_several_targets_has_a_command_for_each(status, root):
    facts = {"device": "a GPU", "seeds": [3], "date": "2026-11-28", "versions": {}}
    targets = {
        name: {**facts, "command": f"geonorm reproduce swap --target {name}"} for name in ("forces", "couplings")
    }
    (root / "book/results/swap.json").write_text(json.dumps({"targets": targets, "rows": {}}))
    found = status.long_runs(root)
    assert "**swap, forces**: a GPU, 2026-11-28, seeds 3" in found
    assert "geonorm reproduce swap \\\n  --target couplings\n" in found
