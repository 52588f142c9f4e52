"""Theorems B, C and D: what a choice of axes cannot see, who influences whom, and what an exponent keeps."""

from itertools import product

import pytest
import torch
from layers.choices import AXES
from layers.peers import EXACT, assert_equal, randomize
from torch import Tensor
from torch.func import jacrev
from untyped import untyped

import geonorm as gn
from geonorm.layers.fields import Fields


def batch_of(*sizes: int) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def jacobian(layer: gn.Standardize, x: Tensor, batch: Tensor) -> Tensor:
    """The derivative of all outputs by all inputs."""
    with untyped():
        matrix = jacrev(lambda x: layer(x, batch, int(batch.max()) + 1))(x)
    return matrix.detach().reshape(x.numel(), x.numel())


def nullity(matrix: Tensor) -> int:
    """The number of directions that change nothing."""
    values = torch.linalg.svdvals(matrix)
    return int((values < 1e-9 * values.max().clamp(min=1e-3)).sum())


# B1: what is lost


GRAPHS = batch_of(4, 5)


@pytest.mark.parametrize(
    ("features", "kwargs", "shifts", "scales"),
    [
        (8, dict(mean="x", scale="x"), 16, 16),  # InstanceNorm: per sample and channel
        (8, dict(mean="xv", scale="xv"), 2, 2),  # LayerNorm of a graph
        (8, dict(mean="v", scale="v"), 9, 9),  # LayerNorm of a node
        (8, dict(mean="x", scale="xv"), 16, 2),  # PairNorm
        (8, dict(mean="x", scale=None), 16, 0),  # MeanSubtractionNorm
        (8, dict(mean="bx", scale="bx"), 8, 8),  # BatchNorm
        (8, dict(mean="x", scale="x", alpha=0.7), 0, 16),  # GraphNorm: of the mean a part survives
        (8, dict(mean=None, scale="bx", statistic="rms"), 0, 8),  # VarianceNorm in theory
        (8, dict(mean=None, scale="bx", statistic="own"), 0, 8),  # and as printed
        (8, dict(mean="x", scale="v"), 16, 2),  # PairNorm, each node by itself: with 8 channels, one scale per sample
        (8, dict(mean=None, scale=None), 0, 0),
        ("2x0e+2x1o", dict(mean="bx", scale="bxm"), 2, 4),  # e3nn's BatchNorm
        ("2x1o", dict(mean=None, scale="m", statistic="rms", level="node"), 0, 18),  # vectors of unit length
        ("2x0e+2x1o", dict(mean=None, scale="xvtm", statistic="rms"), 0, 2),  # one size per sample
        ("2x1o", dict(mean="x", scale="xm", mean_on="all"), 12, 4),  # centred vectors: 3 shifts each
    ],
    ids=str,
)
def test_the_lost_directions_are_one_shift_per_mean_and_one_scale_per_size(features, kwargs, shifts, scales):
    layer = randomize(gn.Standardize(features, eps=0.0, dtype=torch.float64, **kwargs))
    x = torch.randn(9, layer.fields.dim, dtype=torch.float64) + 0.3
    assert nullity(jacobian(layer, x, GRAPHS)) == shifts + scales


def pools(layer: gn.Standardize, which: str, batch: Tensor) -> Tensor | None:
    """The number of the pool of every entry, −1 where there is none, from the definition of the axes alone."""
    axes = getattr(layer, f"{which}_axes")
    if axes is None:
        return None
    columns = layer.fields.columns
    only_invariants = which == "mean" and layer.mean_on == "0e"
    names: dict[tuple, int] = {}
    numbers = []
    for node, column in product(range(len(batch)), columns):
        if only_invariants and not column.trivial:
            numbers.append(-1)
            continue
        row = (int(batch[node]), node)[: 0 if "b" in axes else 1 if "x" in axes else 2]
        place = [] if "t" in axes else [column.type]
        place += [] if "v" in axes else [(column.type, column.channel)]
        place += [] if "m" in axes else [(column.type, column.component)]
        numbers.append(names.setdefault((row, *place), len(names)))
    return torch.tensor(numbers)


@pytest.mark.parametrize("features", [3, "2x0e+1x1o"], ids=str)
def test_the_lost_directions_are_counted_by_the_ranks_of_the_pools(features):
    # dim = dim Im Π + |Q| − rank M, M_PQ the sum of the centred features over the entries that P and Q share.
    batch = batch_of(3, 2)
    x = torch.randn(5, Fields(features).dim, dtype=torch.float64) + 0.3
    checked = 0
    for mean, scale, mean_on in product([None, *AXES], [None, *AXES], ("0e", "all")):
        if mean_on == "all" and (mean is None or features == 3):
            continue
        kwargs = dict(mean=mean, scale=scale, mean_on=mean_on, eps=0.0, bias=False, gain=False, allow_illegal=True)
        layer = gn.Standardize(features, dtype=torch.float64, **kwargs)
        centred = x
        shifts = torch.zeros(x.numel(), 0, dtype=torch.float64)
        if mean is not None:
            mean_of = pools(layer, "mean", batch)
            kept = mean_of >= 0
            shifts = torch.nn.functional.one_hot(mean_of.clamp(min=0), int(mean_of.max()) + 1).double() * kept[:, None]
            sizes = shifts.sum(0)
            centred = (x.flatten() - shifts @ (shifts.T @ x.flatten() / sizes)).view_as(x)
        scales = torch.zeros(x.numel(), 0, dtype=torch.float64)
        if scale is not None:
            scale_of = pools(layer, "scale", batch)
            scales = torch.nn.functional.one_hot(scale_of).double()
            if ((scales.T @ centred.flatten().square()) < 1e-20).any():
                continue  # a pool without size is outside the domain
        shared = shifts.T @ (scales * centred.flatten()[:, None])
        rank = int(torch.linalg.matrix_rank(shared, atol=1e-10)) if shared.numel() else 0
        expected = shifts.shape[1] + scales.shape[1] - rank
        found = nullity(jacobian(layer, x, batch))
        assert found == expected, f"mean {mean} on {mean_on}, scale {scale}: {found}, expected {expected}"
        checked += 1
    assert checked > 100


def test_of_a_centred_layer_the_residual_forgets_shifts_and_the_rms_a_mirror_image_that_no_derivative_sees():
    # Fibres are convex where the scale is that of the residual. With the RMS, scale and mean are tied, up to a sign.
    x = torch.randn(6, 1, dtype=torch.float64) + 0.5
    others = {"mirrored": x - 2 * x.mean(), "shifted": x + 0.2, "scaled": 2 * x}
    same = {}
    for statistic in ("residual", "rms"):
        kwargs = dict(mean="x", scale="x", statistic=statistic, eps=0.0, bias=False, dtype=torch.float64)
        layer = gn.Standardize(1, **kwargs)
        same[statistic] = [name for name, other in others.items() if torch.allclose(layer(other), layer(x))]
        assert nullity(jacobian(layer, x, batch_of(6))) == 2 - (statistic == "rms")
    assert same == {"residual": ["mirrored", "shifted", "scaled"], "rms": ["mirrored", "scaled"]}


def test_with_eps_the_size_of_a_pool_is_visible_as_one_part_in_the_size():
    # The smallest singular value on a pool is eps / (s² + eps) of the largest.
    for size in (0.1, 1.0, 10.0):
        layer = gn.Standardize(6, mean=None, scale="v", statistic="rms", eps=1e-2, dtype=torch.float64, bias=False)
        x = torch.randn(1, 6, dtype=torch.float64)
        x = size * x / x.square().mean().sqrt()
        values = torch.linalg.svdvals(jacobian(layer, x, batch_of(1)))
        assert float(values[-1] / values[0]) == pytest.approx(1e-2 / (size**2 + 1e-2), rel=1e-9)


def test_eval_mode_loses_nothing():
    layer = randomize(gn.Standardize("2x0e+2x1o", scale="bxm", track_running_stats=True, dtype=torch.float64))
    x = torch.randn(9, 8, dtype=torch.float64)
    layer(x, GRAPHS)
    assert nullity(jacobian(layer.eval(), x, GRAPHS)) == 0


# C: who influences whom


@pytest.mark.parametrize("statistic", ["rms", "residual", "own"])
def test_samples_are_independent_where_no_statistic_pools_them_and_nodes_where_none_pools_nodes(statistic):
    batch = batch_of(3, 2)
    x = torch.randn(5, 5, dtype=torch.float64) + 0.3
    same_sample = batch[:, None] == batch
    same_node = torch.eye(5, dtype=torch.bool)
    for mean, scale in product([None, *AXES], [None, *AXES]):
        if statistic != "rms" and (scale is None or (mean is None and statistic == "residual")):
            continue
        kwargs = dict(mean=mean, scale=scale, mean_on="all", statistic=statistic, alpha=0.7, allow_illegal=True)
        layer = gn.Standardize("2x0e+1x1o", eps=0.1, dtype=torch.float64, **kwargs)
        blocks = jacobian(layer, x, batch).view(5, 5, 5, 5).abs().amax((1, 3))
        pooled = "".join(axes for axes in (mean, scale) if axes is not None)
        between_samples = blocks[~same_sample].max()
        between_nodes = blocks[same_sample & ~same_node].max()
        assert (between_samples > 1e-6) == ("b" in pooled), f"{mean} {scale}"
        assert (between_nodes > 1e-6) == ("x" in pooled), f"{mean} {scale}"
        if "b" not in pooled:
            assert between_samples == 0, "not small: zero"
        if "x" not in pooled:
            assert between_nodes == 0, "not small: zero"


def test_in_eval_mode_every_node_is_alone():
    layer = gn.Standardize("2x0e+1x1o", scale="bxm", track_running_stats=True, dtype=torch.float64)
    x = torch.randn(5, 5, dtype=torch.float64)
    layer(x)
    blocks = jacobian(layer.eval(), x, batch_of(3, 2)).view(5, 5, 5, 5).abs().amax((1, 3))
    assert torch.equal(blocks > 0, torch.eye(5, dtype=torch.bool))


@pytest.mark.parametrize("exponent", [1.0, 0.6])
def test_the_link_between_two_entries_has_its_closed_form(exponent):
    # ∂y_k/∂a_l = −γ_k S^−τ (1/|P| + τ ŷ_k ŷ_l / |Q|) for entries of one pool of batch normalization.
    layer = gn.Standardize(3, mean="bx", scale="bx", exponent=exponent, eps=0.0, bias=False, dtype=torch.float64)
    randomize(layer)
    x = torch.randn(5, 3, dtype=torch.float64)
    found = jacobian(layer, x, batch_of(3, 2)).view(5, 3, 5, 3)
    size = x.std(0, correction=0)
    unit = (x - x.mean(0)) / size
    for k, other, channel in product(range(5), range(5), range(3)):
        if k != other:
            product_of_units = unit[k, channel] * unit[other, channel]
            expected = -layer.weight[channel] * size[channel] ** -exponent * (1 + exponent * product_of_units) / 5
            assert_equal(found[k, channel, other, channel], expected)


# D: the exponent


@pytest.mark.parametrize("exponent", [0.25, 0.5, 0.9, 1.0, 2.0])
@pytest.mark.parametrize(
    ("mean", "scale"),
    [(None, "m"), (None, "xvtm"), ("x", "xm"), ("bx", "bxm")],
    ids=["node", "sample", "mean", "batch"],
)
def test_an_exponent_turns_a_factor_into_a_power_of_it(mean, scale, exponent):
    # f(λ b) = λ^(1 − τ) f(b), with a factor of its own for every pool.
    kwargs = dict(mean=mean, scale=scale, exponent=exponent, eps=0.0, gain=False, bias=False)
    layer = gn.Standardize("2x0e+2x1o", dtype=torch.float64, **kwargs)
    batch = batch_of(3, 2)
    x = torch.randn(5, 8, dtype=torch.float64)
    number = pools(layer, "scale", batch)
    factor = (0.5 + 2 * torch.rand(int(number.max()) + 1, dtype=torch.float64))[number].view_as(x)
    assert_equal(layer(factor * x, batch), factor ** (1 - exponent) * layer(x, batch), tolerance=10 * EXACT)


@pytest.mark.parametrize("exponent", [0.25, 0.5, 0.75, 0.9])
def test_below_one_nothing_but_shifts_is_lost_and_the_condition_is_the_same_everywhere(exponent):
    kwargs = dict(scale="xv", exponent=exponent, eps=0.0, bias=False, dtype=torch.float64)
    for size in (0.01, 1.0, 100.0):
        x = size * torch.randn(1, 7, dtype=torch.float64)
        values = torch.linalg.svdvals(jacobian(gn.Standardize(7, mean=None, **kwargs), x, batch_of(1)))
        assert float(values[0] / values[-1]) == pytest.approx(1 / (1 - exponent), rel=1e-9)
    x = torch.randn(9, 8, dtype=torch.float64)
    assert nullity(jacobian(gn.Standardize(8, mean="xv", **kwargs), x, GRAPHS)) == 2


def test_a_learned_exponent_finds_the_power_that_made_the_data_for_each_type():
    irreps = "2x0e+2x1o"
    true = gn.Standardize(irreps, mean=None, scale="xm", statistic="rms", learn_exponent=True, exponent=0.5, bias=False)
    learned = gn.Standardize(
        irreps, mean=None, scale="xm", statistic="rms", learn_exponent=True, exponent=0.5, gain=False, bias=False
    )
    with torch.no_grad():
        true.exponent_logit.copy_(torch.logit(torch.tensor([0.3, 0.8])))
    batch = torch.arange(60) // 5
    x = torch.randn(60, 8) * torch.logspace(-1, 1, 12)[batch][:, None]
    target = true(x, batch).detach()
    optimizer = torch.optim.LBFGS(learned.parameters(), line_search_fn="strong_wolfe", max_iter=30)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (learned(x, batch) - target).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(torch.sigmoid(learned.exponent_logit), torch.tensor([0.3, 0.8]), rtol=0, atol=1e-3)
