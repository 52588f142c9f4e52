"""The formula, against the same formula written entry by entry."""

from collections.abc import Iterator

import pytest
import torch
from kernels.oracle import (
    BATCH,
    COLUMNS,
    NODES,
    PARTITIONS,
    SAMPLES,
    Case,
    Statistic,
    every_case,
    every_choice_of_rows,
)
from torch import Tensor

from geonorm.kernels import analytic, choice
from geonorm.kernels.plan import Parameters


@pytest.fixture(autouse=True)
def implementation() -> Iterator[None]:
    """The formula in torch, whatever else there is."""
    with choice.using("analytic"):
        yield


every_rows = pytest.mark.parametrize(("statistic", "mean", "scale"), every_choice_of_rows(), ids=str)


def features(dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(NODES, COLUMNS, dtype=torch.float64) + 0.3).to(dtype)


def relative(given: Tensor, expected: Tensor) -> float:
    assert given.shape == expected.shape
    return float((given - expected).abs().max() / expected.abs().max().clamp(min=1))


@every_rows
def test_the_result_is_that_of_the_naive_formula(statistic, mean, scale):
    for case in every_case(statistic, mean, scale):
        for some in (False, True):
            x, parameters = features(), case.parameters(some=some)
            y, _, _ = analytic.forward(x, parameters, case.plan(x))
            assert relative(y, case(x, parameters)) < 1e-13, str(case)


@every_rows
def test_the_statistics_are_the_mean_and_the_second_moment_of_every_pool(statistic, mean, scale):
    for case in every_case(statistic, mean, scale):
        x = features()
        plan = case.plan(x)
        _, means, squares = analytic.forward(x, Parameters(), plan)
        u = x
        if mean is None:
            assert means is None
        else:
            assert relative(plan.mean.expand(means).expand_as(x), case.mean.average(x, BATCH)) < 1e-13, str(case)
            u = x - case.mean.average(x, BATCH)
        if scale is None:
            assert squares is None
        else:
            c = {"rms": x, "residual": u, "own": x - case.scale.average(x, BATCH)}[statistic]
            expected = case.scale.average(c.square(), BATCH)
            assert relative(plan.scale.expand(squares).expand_as(x), expected) < 1e-13, str(case)


def test_a_batch_without_nodes_and_a_sample_without_nodes_have_no_influence():
    for statistic, mean, scale in every_choice_of_rows():
        for case in every_case(statistic, mean, scale):
            nothing = torch.zeros(0, COLUMNS, dtype=torch.float64)
            no_batch = torch.zeros(0, dtype=torch.long)
            y, means, squares = analytic.forward(nothing, Parameters(), case.plan(nothing, no_batch, 2))
            assert y.shape == (0, COLUMNS)
            for value in (means, squares):
                assert value is None or bool(value.isfinite().all())
    x = features()
    case = Case(Statistic("sample", PARTITIONS["each"]), Statistic("sample", PARTITIONS["all"]), "residual")
    without = analytic.forward(x, Parameters(), case.plan(x))[0]
    assert torch.equal(without, analytic.forward(x, Parameters(), case.plan(x, BATCH, SAMPLES + 3))[0])


# float32


@pytest.mark.parametrize("sizes", [(4,) * 9, (64,) * 4, (65, 1), (3000, 1, 2), (20000, 1)], ids=str)
@pytest.mark.parametrize("rows", ["sample", "batch"])
def test_far_from_zero_the_error_is_of_the_size_of_the_rounding_of_the_input(sizes, rows):
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    x = (torch.randn(len(batch), COLUMNS, dtype=torch.float64) + 1e4).float()
    case = Case(Statistic(rows, PARTITIONS["each"]), Statistic(rows, PARTITIONS["each"]), "residual", eps=1e-5)
    exact, _, square = analytic.forward(x.double(), Parameters(), case.plan(x.double(), batch, len(sizes)))
    y, _, _ = analytic.forward(x, Parameters(), case.plan(x, batch, len(sizes)))
    # In units of the input, whose entries are multiples of ``spacing``.
    spacing = 1e4 * torch.finfo(torch.float32).eps
    error = ((y - exact) * (square + 1e-5).sqrt()[batch if rows == "sample" else 0]).abs().max()
    assert error < 6 * spacing
