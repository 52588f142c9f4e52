"""The prose pages say what the code does: their code runs, and their numbers are those of the table."""

import importlib.util
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import torch

import geonorm as gn
from geonorm import TABLE1

BOOK = Path(__file__).parents[1] / "book"
PAGES = ("intro", "how_to_use", "notation")


def blocks(page: str) -> list[str]:
    text = (BOOK / f"{page}.md").read_text()
    # A block of one tab is one way to write a formula, not a continuation of the page's program.
    text = re.sub(r"::::\{tab-set\}.*?\n::::\n", "", text, flags=re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def tabs() -> dict[str, list[str]]:
    (tab_set,) = re.findall(r"::::\{tab-set\}(.*?)\n::::\n", (BOOK / "notation.md").read_text(), flags=re.DOTALL)
    return {
        name.strip(): re.findall(r"^```python\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
        for name, body in re.findall(r":::\{tab-item\} (.*?)\n(.*?)\n:::", tab_set, flags=re.DOTALL)
    }


@pytest.mark.parametrize(
    "module", ["geonorm", *(f"geonorm.{name}" for name in ("data", "experiments", "match", "viz"))]
)
def test_every_public_name_is_on_the_library_page(module: str) -> None:
    page = (BOOK / "api.md").read_text()
    documented = set(re.findall(r"^\.\. (?:auto|py:)\w+:: geonorm\.(?:[\w.]+\.)?(\w+)$", page, flags=re.MULTILINE))
    names = set(import_module(module).__all__)
    assert names <= documented, sorted(names - documented)


@pytest.mark.parametrize("page", PAGES)
def test_code_on_a_page_runs_from_top_to_bottom(page: str, capsys: pytest.CaptureFixture) -> None:
    found = blocks(page)
    assert found, f"{page}.md has no code any more: take it out of PAGES"
    namespace: dict = {}
    for block in found:
        exec(compile(block, f"{page}.md", "exec"), namespace)
    if page == "how_to_use":
        printed = capsys.readouterr().out
        assert "not equivariant" in printed, "the illegal choice of axes is refused with the reason"
        assert "error sample" in printed
        assert printed.rstrip().endswith("18")


def test_every_way_to_write_the_formula_is_the_same_function() -> None:
    import torch

    import geonorm as gn

    torch.manual_seed(0)
    a = torch.randn(3, 5, 4, dtype=torch.float64)
    x, batch = a.flatten(0, 1), torch.arange(3).repeat_interleave(5)
    expected = gn.InstanceNorm(4, eps=1e-5)(a)
    codes = [code for found in tabs().values() for code in found]
    assert len(codes) == 4
    for code in codes:
        if "einops" in code and importlib.util.find_spec("einops") is None:
            continue
        namespace = {"a": a, "x": x, "batch": batch, "v": 4, "eps": 1e-5, "gn": gn}
        exec(code, namespace)
        torch.testing.assert_close(namespace["y"].reshape(a.shape), expected, rtol=0, atol=1e-12)


def test_the_landing_page_counts_the_verdicts_of_the_table() -> None:
    text = " ".join((BOOK / "intro.md").read_text().split())
    count = Counter(row.verdict for row in TABLE1.values())
    printed = sum(count.values()) - count["missing"]
    assert f"Of the {printed} rows of Table 1, {count['same']} are right as printed" in text
    assert f"{count['notation']} need a remark on notation, {count['incomplete']} leaves out a part" in text
    assert f"{count['ambiguous']} stand for two different layers, and {count['error']} print another function" in text
    assert count["missing"] == 1
    assert f"A {len(TABLE1)}rd layer, the one of the survey's Case 3, has no row" in text


def test_the_landing_page_counts_what_the_rows_erase() -> None:
    text = " ".join((BOOK / "intro.md").read_text().split())
    sizes = {"samples": 2, "nodes": 9, "channels": 8}
    instance, pair, layer, constant = (
        TABLE1[name].nullity(**sizes) for name in ("InstanceNorm", "PairNorm", "LayerNorm", "Allegro / MACE")
    )
    assert constant == 0
    assert f"InstanceNorm removes {instance} of 72 numbers, PairNorm {pair}, LayerNorm over graphs {layer}," in text


def test_the_landing_page_is_right_about_what_set_norm_confuses() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    pair = torch.cat([x, 3 * x + 2])
    first, second = gn.SetNorm(8, eps=1e-12, dtype=torch.float64)(pair)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-9)
    first, second = gn.BatchNorm(8, eps=1e-12, dtype=torch.float64)(pair)
    assert (first - second).norm() > first.norm()


def test_the_landing_page_names_the_rows_that_couple_samples_and_that_rotate() -> None:
    text = " ".join((BOOK / "intro.md").read_text().split())
    coupled = [row.name for row in TABLE1.values() if not row.properties.independent_train]
    on_scalars, on_vectors = (
        [name for name in coupled if (TABLE1[name].features == "scalars") == scalars] for scalars in (True, False)
    )
    assert f"In training, {in_a_list(on_scalars)} make the output for one molecule depend" in text
    assert f"So do {in_a_list(on_vectors)}: what repairs" in text
    divides = [row for row in TABLE1.values() if row.scale is not None and row.features == "scalars"]
    rotating = [row.name for row in divides if row.properties.rotation]
    assert f"breaks rotations, except {in_a_list(rotating)}." in text
    vectors = [row for row in TABLE1.values() if row.features != "scalars"]
    assert f"The {('', 'one', 'two', 'three', 'four', 'five', 'six')[len(vectors)]} layers that were made for" in text
    assert {row.properties.rotation for row in vectors} == {"node"}


def in_a_list(names: list[str]) -> str:
    """Names as a sentence lists them."""
    return f"{', '.join(names[:-1])} and {names[-1]}"
