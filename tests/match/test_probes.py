"""Random probes give the verdict of the whole Jacobian, at a fraction of its size, whatever their seed."""

import time

import pytest
import torch
from match.broken import BROKEN, RIGHT
from torch import Tensor, nn

import geonorm as gn
from geonorm.match.families import families
from geonorm.match.first_order import first_order
from geonorm.match.frozen import frozen
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.jacobian import derivative
from geonorm.match.measurement import Measurement
from geonorm.match.named import named
from geonorm.match.pooled import Pooled, Span
from geonorm.match.probes import coupling, largest_singular_value, lost_in, norm_on, reach, search, sketch
from geonorm.match.products import Products
from geonorm.match.rows import layer_of
from geonorm.match.state import states
from geonorm.table import TABLE1

BATCH = batch_of((4, 5))


def measured(layer, inputs: str, function: str) -> Measurement:
    """One function of a layer at its input."""

    def draw(seed: int) -> tuple[Tensor, Tensor, int]:
        return generic_features(gn.layers.fields.Fields(inputs), (4, 5), seed), BATCH, 2

    return Measurement(states(layer, draw)[function], draw(0)[0], BATCH, inputs, inputs, 0)


def both(layer, inputs: str, function: str) -> list[tuple]:
    """What the whole Jacobian of one function of a layer tells, and what probes do: coupling, names, numbers."""
    at, found = measured(layer, inputs, function), []
    for probes in (False, True):
        influence, removed = first_order(at, at.x, BATCH, probes=probes, seed=0, irreps=inputs)
        assert removed.probes == (16 if probes else 0)
        counted = (removed.added, removed.unnamed, removed.flips, removed.columns, removed.dimension)
        found.append((influence > 1e-10, *counted, set(removed.approximate)))
    return found


@pytest.mark.parametrize("name", [name for name in (*BROKEN, *RIGHT) if name not in ("nan", "zero map", "constant")])
def test_probes_and_the_whole_jacobian_agree_on_broken_layers_and_right_ones(name: str) -> None:
    layer, inputs = (BROKEN.get(name) or RIGHT[name])[:2]
    whole, probed = both(layer, inputs, "training" if isinstance(layer, nn.Module) else "function")
    assert probed == whole


# Vector Neuron and DiffGroupNorm are among the broken ones.
ROWS = [row for row in TABLE1.values() if row.name not in ("Vector Neuron", "DiffGroupNorm")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_probes_and_the_whole_jacobian_agree_on_the_table(row) -> None:
    layer, inputs, _ = layer_of(row, "vectors" if layer_of(row, "scalars") is None else "scalars")
    whole, probed = both(layer, inputs, "training")
    assert probed == whole


def test_a_check_by_probes_gives_the_verdict_of_the_whole_jacobian_in_every_state() -> None:
    whole, probed = (gn.check(gn.BatchNorm(3), 3, probes=probes) for probes in (False, True))
    of = [(each.matched, set(each.broken), each.added, each.couples, each.level) for each in (whole, probed)]
    assert of[0] == of[1]
    sizes = [[state.removed.dimension for state in report.states] for report in (whole, probed)]
    assert sizes[0] == sizes[1]
    assert len(sizes[0]) == 4


@pytest.mark.parametrize("name", ["batch mean of vectors subtracted", "unit vectors"])
def test_the_verdict_of_probes_does_not_depend_on_the_seed(name: str) -> None:
    layer, inputs, broken, added, level = BROKEN[name]
    for seed in range(3):
        report = gn.check(layer, inputs, probes=True, seed=seed)
        assert (set(report.broken), set(report.added), report.level) == (broken, added, level), seed


def test_many_channels_are_probed_in_seconds_and_the_report_says_so() -> None:
    start = time.process_time()
    layer = frozen(gn.InstanceNorm(256))
    report = gn.check(lambda x, batch: layer(x, batch), "256x0e")
    assert time.process_time() - start < 8  # a second where nothing else runs; the whole Jacobian takes ten times that
    assert report.added == {"shift per (sample, channel)": 512, "scale per (sample, channel)": 512}
    assert not report.couples
    assert "with 16 random probes instead of the whole Jacobian" in str(report)
    assert report.to_dict()["states"][0]["probes"] == 16
    assert "probes" not in str(gn.check(gn.InstanceNorm(8), "8x0e"))


def test_a_large_jacobian_of_small_blocks_is_taken_as_a_whole() -> None:
    at = measured(gn.VectorNeuronNorm(64), "64x1o", "training")  # 1728 inputs, in blocks of 27
    start = time.process_time()
    _, removed = first_order(at, at.x, BATCH, probes=None, seed=0, irreps="64x1o")
    assert time.process_time() - start < 3  # a third of a second where nothing else runs; twenty with probes
    assert removed.added == {"scale per field": 64, "shift of lengths per field": 64}
    assert removed.probes == 0


def test_reach_is_the_number_of_inputs_that_an_output_depends_on() -> None:
    assert reach(Products(function, X)) == 9  # a channel of all nodes
    assert reach(Products(lambda x: x * x.sum(), X)) == 72


def low_rank(lost: int):
    """A linear map of all 72 entries that loses so many directions without a name."""
    generator = torch.Generator().manual_seed(lost)
    directions = torch.linalg.qr(torch.randn(72, 72, dtype=torch.float64, generator=generator)).Q
    values = torch.linspace(0.5, 1, 72, dtype=torch.float64) * (torch.arange(72) >= lost)
    matrix = directions @ torch.diag(values) @ directions.T
    return lambda x: (matrix @ x.flatten()).reshape(x.shape)


@pytest.mark.parametrize("lost", [0, 1, 7, 15])
def test_fewer_unnamed_directions_than_probes_are_counted(lost: int) -> None:
    for seed in range(4):
        removed = gn.check(low_rank(lost), 8, probes=True, seed=seed).states[0].removed
        assert (removed.unnamed, removed.about, removed.settled) == (lost, None, True)


def test_a_search_stays_outside_of_what_is_known_though_it_is_felt() -> None:
    products = Products(low_rank(15), X)
    known = Span(72)
    assert known.add(Pooled.of(torch.arange(72) % 8, torch.ones(72, dtype=torch.float64))) == 8
    largest = largest_singular_value(products, sketch(products))
    found = search(products, known, largest, exact=1e-9, small=1e-9)
    assert len(found.basis) == 15 - 8  # those of the lost directions that are orthogonal to eight others
    torch.testing.assert_close(known.without(found.basis), found.basis)


def test_of_more_there_is_a_bound_and_an_estimate_without_bias() -> None:
    reports = [gn.check(low_rank(40), 8, probes=True, seed=seed) for seed in range(10)]
    removed = [report.states[0].removed for report in reports]
    assert {each.unnamed for each in removed} == {16}
    about = torch.tensor([each.about for each in removed])
    assert abs(about.mean() - 40) < 4 * about.std() / len(about) ** 0.5
    assert about.std() < 6
    assert "unnamed: 16 directions or more, about " in str(reports[0])


def test_combinations_of_members_that_are_lost_get_the_name_of_their_family() -> None:
    weight = torch.linspace(1, 2, 8, dtype=torch.float64)
    weight = weight / weight.norm()
    layer = lambda x: x - (x @ weight)[:, None] * weight  # noqa: E731
    whole, probed = (gn.check(layer, 8, probes=probes).added for probes in (False, True))
    assert probed == whole == {"shift per (sample, channel)": 2, "unnamed": 7}


BATCH_NORM = frozen(gn.BatchNorm(8))


def function(x: Tensor) -> Tensor:
    return BATCH_NORM(x, BATCH, 2)


X = generic_features(gn.layers.fields.Fields("8x0e"), (4, 5))


class Opaque(torch.autograd.Function):
    """A cube whose own backward hides how it depends on the gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


class Unbatched(torch.autograd.Function):
    """A cube that looks at numbers, which no transform can batch."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        assert g.detach().sum().item() == g.detach().sum().item()
        return 3 * ctx.saved_tensors[0] ** 2 * g


@pytest.mark.parametrize(
    ("of", "way"),
    [(function, "transforms"), (Unbatched.apply, "one by one"), (Opaque.apply, "differences")],
    ids=["transforms", "one by one", "differences"],
)
def test_products_are_those_of_the_matrix_in_every_way(of, way: str) -> None:
    products = Products(of, X)
    assert products.way == way
    matrix = derivative(of, X).reshape(-1, 72)
    v = torch.randn(3, 72, dtype=torch.float64)
    torch.testing.assert_close(products.forward(v), v @ matrix.T, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(products.backward(v), v @ matrix, rtol=1e-12, atol=1e-12)


def test_coupling_by_probes_is_that_of_the_matrix_and_zero_for_independent_samples() -> None:
    square = derivative(function, X).reshape(9, 8, 9, 8).square().sum((1, 3))
    exact = (square[BATCH[:, None] != BATCH[None]].sum() / square.sum()).item()
    found = torch.tensor([coupling(Products(function, X), BATCH, BATCH, seed) ** 2 for seed in range(12)])
    assert abs(found.mean() - exact) < 4 * found.std() / 12**0.5
    layer = frozen(gn.InstanceNorm(8))
    assert coupling(Products(lambda x: layer(x, BATCH, 2), X), BATCH, BATCH) == 0


def test_norms_and_null_spaces_are_those_of_the_matrix() -> None:
    matrix = derivative(function, X).reshape(-1, 72)
    products = Products(function, X)
    largest = largest_singular_value(products, sketch(products))
    assert largest == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item(), rel=1e-2)
    scales = Pooled.of(torch.arange(72) // 8, X.flatten())
    basis = scales.combine(torch.eye(9, dtype=torch.float64)).T
    assert norm_on(products, scales) == pytest.approx(torch.linalg.matrix_norm(matrix @ basis, 2).item(), rel=1e-2)
    shifts = Pooled.of(torch.arange(72) % 8, torch.ones(72, dtype=torch.float64))
    assert len(lost_in(products, shifts, largest, 1e-9)) == 8
    known = Span(72)
    assert known.add(shifts) == 8
    assert search(products, known, largest, exact=1e-9, small=0.0).basis.shape[0] == 0


@pytest.mark.parametrize(("irreps", "groups"), [("8x0e", 2), ("2x0e+2x1o", None)])
def test_a_span_of_families_is_that_of_their_matrices(irreps: str, groups: int | None) -> None:
    x = X.clone()
    dense = {name: basis for _, _, name, basis in families(x, BATCH, irreps, groups)}
    pooled = {name: family for _, _, name, family in named(x, BATCH, irreps, groups)}
    names, z = list(dense), torch.randn(2, 72, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        some = [names[n] for n in torch.randperm(len(names), generator=generator)[:4]]
        span = Span(72)
        new = [span.add(pooled[name]) for name in some]
        left, values, _ = torch.linalg.svd(torch.cat([dense[name] for name in some], 1), full_matrices=False)
        left = left[:, values > 1e-6]
        assert span.rank == sum(new) == left.shape[1]
        torch.testing.assert_close(span.without(z), z - z @ left @ left.T)
        assert span.add(pooled[some[0]]) == 0
