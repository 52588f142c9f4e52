"""VectorPerceptronNorm and EGANNorm: formulas, inputs of three forms, and the faults of the published codes."""

import pytest
import torch
from layers.peers import SIZES, assert_equal, difference, features, mean_of_sample, ragged_batch, randomize, refused
from layers.vector.published import GvpLayerNorm, eqgat_layer_norm
from layers.vector.support import CHANNELS, NODES, assert_formula, joined, rotations, turn, vectors
from torch import Tensor, nn

import geonorm as gn

SCALARS = 5
sorted_or_not = pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
both = pytest.mark.parametrize("kind", [gn.VectorPerceptronNorm, gn.EGANNorm])


def pair(nodes: int = NODES) -> tuple[Tensor, Tensor]:
    """Scalars and vectors."""
    return features(nodes, SCALARS), vectors(nodes)


def standardized(s: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scalars with gain and bias."""
    return weight * (s - mean) / (variance + 1e-5).sqrt() + bias


# Formulas


def test_per_node_it_computes_its_formula() -> None:
    def formula(s: Tensor, v: Tensor, scalars_weight: Tensor, scalars_bias: Tensor) -> tuple[Tensor, Tensor]:
        y = standardized(s, s.mean(1, keepdim=True), s.var(1, False, keepdim=True), scalars_weight, scalars_bias)
        return y, v / (v.square().sum(2).mean(1) + 1e-8).sqrt()[:, None, None]

    layer = randomize(gn.VectorPerceptronNorm(CHANNELS, SCALARS, dtype=torch.float64))
    assert_formula(layer, formula, *pair(), batch=(ragged_batch(), len(SIZES)))
    assert_formula(layer.eval(), formula, *pair())


@sorted_or_not
@pytest.mark.parametrize("batch_size", [None, len(SIZES)])
def test_per_graph_it_computes_its_formula(shuffled: bool, batch_size: int | None) -> None:
    batch = ragged_batch(shuffled=shuffled)

    def formula(s: Tensor, v: Tensor, scalars_weight: Tensor, scalars_bias: Tensor) -> tuple[Tensor, Tensor]:
        mean = mean_of_sample(batch, s.mean(1, keepdim=True))
        variance = mean_of_sample(batch, (s - mean).square().mean(1, keepdim=True))
        square = mean_of_sample(batch, v.square().sum(2).mean(1, keepdim=True))
        return (
            standardized(s, mean, variance, scalars_weight, scalars_bias),
            v / (square + 1e-5).sqrt()[..., None],
        )

    layer = randomize(gn.EGANNorm(CHANNELS, SCALARS, dtype=torch.float64))
    assert_formula(layer, formula, *pair(), batch=(batch, batch_size))
    assert_formula(layer.eval(), formula, *pair(), batch=(batch, batch_size))


def test_the_vectors_of_a_node_get_an_rms_length_of_one_and_keep_their_ratios() -> None:
    v = vectors()
    y = gn.VectorPerceptronNorm(CHANNELS)(v)
    assert (y.square().sum(2).mean(1) - 1).abs().max() < 1e-6
    assert_equal(y.norm(dim=2) / y.norm(dim=2)[:, :1], v.norm(dim=2) / v.norm(dim=2)[:, :1])
    assert difference(gn.VectorPerceptronNorm(CHANNELS)(1000 * v), y) < 1e-6


# Three forms of input


@both
def test_a_matrix_of_irreps_is_the_pair_side_by_side(kind: type[nn.Module]) -> None:
    (s, v), batch = pair(), ragged_batch(shuffled=True)
    numbers = randomize(kind(CHANNELS, SCALARS, dtype=torch.float64))
    irreps = kind(f"{SCALARS}x0e+{CHANNELS}x1o", dtype=torch.float64)
    irreps.load_state_dict(numbers.state_dict())
    y, w = numbers((s, v), batch, len(SIZES))
    assert (y.shape, w.shape) == (s.shape, v.shape)
    together = torch.cat([y, w.flatten(1)], 1)
    for layer in (numbers, irreps):
        assert_equal(layer(torch.cat([s, v.flatten(1)], 1), batch, len(SIZES)), together)
        given = layer((s, v.flatten(1)), batch, len(SIZES))
        assert given[1].shape == (NODES, 3 * CHANNELS)
        assert_equal(torch.cat(given, 1), together)


@both
def test_scalars_may_stand_anywhere_among_the_irreps(kind: type[nn.Module]) -> None:
    (s, v), batch = pair(), ragged_batch()
    layer = randomize(kind("2x0e+4x1o+0x2e+3x0e", dtype=torch.float64))
    mixed = torch.cat([s[:, :2], v.flatten(1), s[:, 2:]], 1)
    y, w = layer((s, v), batch)
    assert_equal(layer(mixed, batch), torch.cat([y[:, :2], w.flatten(1), y[:, 2:]], 1))


@both
def test_every_type_but_invariants_has_a_divisor_of_its_own_and_no_mean(kind: type[nn.Module]) -> None:
    s, batch = features(NODES, 2), ragged_batch()
    pseudoscalars, v, tensors = features(NODES, 3) + 4, vectors(), features(NODES, 10)
    layer = kind("2x0e+3x0o+4x1o+2x2e", dtype=torch.float64)
    parts = layer(torch.cat([s, pseudoscalars, v.flatten(1), tensors], 1), batch).split([2, 3, 12, 10], 1)
    for part, given, alone in zip(
        parts[1:],
        (pseudoscalars, v.flatten(1), tensors),
        (kind("3x0o"), kind("4x1o"), kind("2x2e")),
        strict=True,
    ):
        assert_equal(part, alone(given, batch))
        assert_equal(torch.cosine_similarity(part, given), torch.ones(NODES))  # divided by one number for each node


@both
def test_without_scalars_the_vectors_come_alone(kind: type[nn.Module]) -> None:
    layer, v, batch = kind(CHANNELS, dtype=torch.float64), vectors(), ragged_batch()
    assert not layer.state_dict()
    expected = kind(CHANNELS, SCALARS, dtype=torch.float64)((features(NODES, SCALARS), v), batch)[1]
    assert_equal(layer(v, batch), expected)
    with refused(r"x is a pair but .*Norm\(4\) has no scalars: pass the vectors alone, or build the layer with"):
        layer((features(NODES, SCALARS), v))


@both
def test_without_vectors_it_is_a_layer_norm(kind: type[nn.Module]) -> None:
    s, batch = features(NODES, SCALARS), ragged_batch()
    expected = gn.LayerNorm(SCALARS, "node" if kind is gn.VectorPerceptronNorm else "graph")(s, batch)
    assert_equal(kind(f"{SCALARS}x0e")(s, batch), expected)
    assert_equal(kind(0, SCALARS)(s, batch), expected)


@both
def test_a_dense_batch_may_come_in_every_form(kind: type[nn.Module]) -> None:
    layer = randomize(kind(CHANNELS, SCALARS, dtype=torch.float64))
    s, v = pair(2 * 6)
    y, w = layer((s, v), ragged_batch((6, 6)))
    dense = layer((s.view(2, 6, -1), v.view(2, 6, CHANNELS, 3)))
    assert dense[0].shape == (2, 6, SCALARS)
    assert dense[1].shape == (2, 6, CHANNELS, 3)
    assert_equal(joined(dense), joined((y, w)))
    matrix = torch.cat([s, v.flatten(1)], 1)
    assert_equal(layer(matrix.view(2, 6, -1)).flatten(0, 1), torch.cat([y, w.flatten(1)], 1))


@both
def test_what_cannot_be_read_is_refused(kind: type[nn.Module]) -> None:
    with refused(r"scalar_channels is 3 and channels '4x1o': give two numbers >= 0, .* or irreps alone"):
        kind("4x1o", 3)
    with refused("scalar_channels is -1 and channels 4: give two numbers"):
        kind(4, -1)
    with refused(r"Vectors\(channels=-4, dim=3\), expected a number of channels >= 0"):
        kind(-4)
    layer = kind(CHANNELS, SCALARS)
    with refused(r"x has shape \[13, 16\], expected \[nodes, 17\]"):
        layer(torch.randn(NODES, 16))
    with refused(r"x has shape \[13, 4, 2\], expected \[nodes, 4, 3\], \[nodes, 12\]"):
        layer((torch.randn(NODES, SCALARS), torch.randn(NODES, 4, 2)))
    with refused(r"x has shape \[13, 4\], expected \[nodes, 5\]"):
        layer((torch.randn(NODES, 4), torch.randn(NODES, 4, 3)))


@both
def test_reset_forgets_gain_and_bias_and_the_representation_is_short(kind: type[nn.Module]) -> None:
    layer = randomize(kind(CHANNELS, SCALARS))
    layer.reset_parameters()
    assert {name: value.unique().tolist() for name, value in layer.state_dict().items()} == {
        "scalars.weight": [1.0],
        "scalars.bias": [0.0],
    }
    assert repr(layer) == f"{kind.__name__}(4, scalar_channels=5)"
    assert repr(kind(4)) == f"{kind.__name__}(4)"
    assert repr(kind("5x0e+4x1o")) == f"{kind.__name__}('5x0e+4x1o')"


# The published codes


def test_the_code_of_gvp_differs_by_its_clamp_only() -> None:
    s, v = pair()
    ours, theirs = gn.VectorPerceptronNorm(CHANNELS, SCALARS, dtype=torch.float64), GvpLayerNorm(SCALARS)
    randomize(theirs)
    ours.load_state_dict({name.replace("scalar_norm", "scalars"): p for name, p in theirs.state_dict().items()})
    given, expected = ours((s, v)), theirs(s, v)
    assert_equal(given[0], expected[0])
    assert difference(given[1], expected[1]) < 1e-7
    zero = torch.zeros_like(v)
    assert_equal(ours((s, zero))[1], theirs(s, zero)[1])


def test_the_clamp_of_gvp_makes_its_derivative_jump_where_ours_is_smooth() -> None:
    direction = torch.tensor([[[1.0, 0.0, 0.0]]], dtype=torch.float64)

    def slope(function, length: float) -> float:
        t = torch.tensor(length, dtype=torch.float64, requires_grad=True)
        return float(torch.autograd.grad(function(t * direction).sum(), t)[0])

    # A single vector, just shorter and just longer than 1e-4.
    assert slope(GvpLayerNorm.vectors, 0.999e-4) == pytest.approx(1e4)
    assert slope(GvpLayerNorm.vectors, 1.001e-4) == pytest.approx(0, abs=1e-6)
    ours = gn.VectorPerceptronNorm(1, dtype=torch.float64)
    assert slope(ours, 1e-4) == pytest.approx(1e4 / 2**1.5)
    assert slope(ours, 0.999e-4) == pytest.approx(slope(ours, 1.001e-4), rel=5e-3)


def test_the_code_of_eqgat_does_not_rotate_its_vectors_with_the_input_and_ours_does() -> None:
    nodes = 400
    s, v, batch = torch.randn(nodes, 16).double(), torch.randn(nodes, 16, 3).double(), torch.arange(nodes) // 100
    matrices = rotations(4)[batch]

    def error(layer) -> float:
        expected = turn(layer(s, v)[1], matrices)
        return float((layer(s, turn(v, matrices))[1] - expected).norm() / expected.norm())

    assert 0.01 < error(lambda s, v: eqgat_layer_norm(s, v, batch)) < 0.2
    ours = gn.EGANNorm(16, 16, dtype=torch.float64)
    assert error(lambda s, v: ours((s, v), batch)) < 1e-14
    # Vectors that lie in one direction show it without a statistic.
    along = torch.zeros(2, 3, 3, dtype=torch.float64)
    along[:, :, 0] = 2.0
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    one, zeros = torch.zeros(2, dtype=torch.long), torch.zeros(2, 3, dtype=torch.float64)
    assert_equal(eqgat_layer_norm(zeros, along, one)[1].norm(dim=2), torch.full((2, 3), 2 / 12, dtype=torch.float64))
    turned = eqgat_layer_norm(zeros, turn(along, quarter), one)[1]
    assert_equal(turned.norm(dim=2), torch.full((2, 3), 2e6, dtype=torch.float64), "divided by its ε alone")


def test_twice_the_input_of_eqgat_gives_half_the_output_and_of_ours_the_same() -> None:
    (s, v), batch = pair(), ragged_batch((8, 5))
    for given, expected in zip(eqgat_layer_norm(2 * s, 2 * v, batch), eqgat_layer_norm(s, v, batch), strict=True):
        assert_equal(2 * given, expected)
    ours = gn.EGANNorm(CHANNELS, SCALARS, eps=1e-14, dtype=torch.float64)
    assert_equal(joined(ours((2 * s, 2 * v), batch)), joined(ours((s, v), batch)))


def test_the_code_of_eqgat_is_ours_with_its_root_and_all_coordinates_put_back() -> None:
    (s, v), batch = pair(), ragged_batch((8, 5))
    theirs = eqgat_layer_norm(s, v, batch)
    y, w = gn.EGANNorm(CHANNELS, SCALARS, eps=0.0, dtype=torch.float64)((s, v), batch)
    deviation = (
        mean_of_sample(batch, s.square().mean(1, keepdim=True))
        - mean_of_sample(batch, s.mean(1, keepdim=True)).square()
    )
    assert_equal(theirs[0] * deviation.sqrt(), y)
    first = mean_of_sample(batch, v[..., 0].square().sum(1, keepdim=True))
    rms = mean_of_sample(batch, v.square().sum(2).mean(1, keepdim=True)).sqrt()
    assert_equal(theirs[1] * (first / rms)[..., None], w)
