"""EvNorm: two parts of one tensor, equal to the first author's code, smooth at zero, saturating."""

import pytest
import torch
from layers.peers import SIZES, assert_equal, features, ragged_batch, randomize, refused
from layers.vector.published import RepNorm
from layers.vector.support import CHANNELS, NODES, assert_formula, joined, to_second_order, vectors
from torch import Tensor

import geonorm as gn
from geonorm.layers.magnitudes import smooth_length

choices = pytest.mark.parametrize(
    ("statistics", "parametrization"), [(s, p) for s in ("batch", "node") for p in ("raw", "inverse")]
)


def width(kappa: Tensor | None, beta: Tensor | None) -> Tensor:
    """1/β."""
    return kappa.abs() if beta is None else 1 / (beta.abs() + 1e-2)


@choices
def test_it_computes_its_formula(statistics: str, parametrization: str) -> None:
    def formula(h: Tensor, kappa: Tensor | None = None, beta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        length = (h.square().sum(2) + 1e-8).sqrt() - 1e-4
        axis = 0 if statistics == "batch" else 1
        content = (length - length.mean(axis, keepdim=True)) / (length.var(axis, False, keepdim=True) + 1e-5).sqrt()
        return content, h / (length + width(kappa, beta) + 1e-2)[..., None]

    layer = gn.EvNorm(CHANNELS, statistics, parametrization, dtype=torch.float64)
    with torch.no_grad():
        (layer.beta if layer.kappa is None else layer.kappa)[1].neg_()  # only the absolute value counts
    assert_formula(layer, formula, vectors(), batch=(ragged_batch(), len(SIZES)))
    untracked = gn.EvNorm(CHANNELS, statistics, parametrization, track_running_stats=False, dtype=torch.float64)
    assert_formula(untracked.eval(), formula, vectors())


@choices
def test_it_is_the_code_of_the_first_author(statistics: str, parametrization: str) -> None:
    theirs = RepNorm(CHANNELS, statistics, "raw" if parametrization == "raw" else "inv")
    ours = gn.EvNorm(CHANNELS, statistics, parametrization, dtype=torch.float64)
    own_name = "kappa" if parametrization == "raw" else "beta"
    ours.load_state_dict({name.replace("beta", own_name): value for name, value in theirs.state_dict().items()})
    for _ in range(3):
        h = vectors()
        assert_equal(joined(ours(h)), joined(theirs(h)))
    ours.eval(), theirs.eval()
    assert_equal(joined(ours(h)), joined(theirs(h)))


@choices
def test_invariants_are_their_own_content_and_point_nowhere(statistics: str, parametrization: str) -> None:
    theirs = RepNorm(3 + CHANNELS, statistics, "raw" if parametrization == "raw" else "inv", invariant=3)
    ours = gn.EvNorm("3x0e+4x1o", statistics, parametrization, dtype=torch.float64)
    own_name = "kappa" if parametrization == "raw" else "beta"
    ours.load_state_dict({name.replace("beta", own_name): value for name, value in theirs.state_dict().items()})
    h, values = vectors(), features(NODES, 3)
    content, direction = ours(torch.cat([values, h.flatten(1)], 1))
    expected = theirs(h, values)
    assert_equal(content, expected[0])
    assert_equal(direction, torch.cat([torch.ones_like(values), expected[1].flatten(1)], 1))


def test_types_may_come_in_any_order_and_pseudoscalars_have_a_length_and_a_sign() -> None:
    h, values, signed = vectors(), features(NODES, 3), features(NODES, 2)
    first = gn.EvNorm("3x0e+4x1o+2x0o", dtype=torch.float64)
    other = gn.EvNorm("2x0o+3x0e+0x1e+4x1o", dtype=torch.float64)
    with torch.no_grad():
        other.kappa.copy_(first.kappa.roll(2))
    content, direction = first(torch.cat([values, h.flatten(1), signed], 1))
    expected_content, expected = other(torch.cat([signed, values, h.flatten(1)], 1))
    assert_equal(content.roll(2, 1), expected_content)
    assert_equal(direction.roll(2, 1), expected)
    smooth = (signed.square() + 1e-8).sqrt() - 1e-4
    assert_equal(direction[:, -2:], signed / (smooth + first.kappa[-2:] + 1e-2))


def test_running_statistics_are_those_of_the_lengths() -> None:
    layer, h = gn.EvNorm(CHANNELS, momentum=1.0, dtype=torch.float64), vectors()
    layer(h)
    length = (h.square().sum(2) + 1e-8).sqrt() - 1e-4
    assert_equal(layer.norm.running_mean, length.mean(0))
    assert_equal(layer.norm.running_var, length.var(0))
    content, _ = layer.eval()(2 * h)
    double = (4 * h.square().sum(2) + 1e-8).sqrt() - 1e-4
    assert_equal(content, (double - length.mean(0)) / (length.var(0) + 1e-5).sqrt())


def test_the_pair_has_a_number_for_each_channel_and_a_vector_for_each_vector() -> None:
    layer, h = gn.EvNorm(CHANNELS, dtype=torch.float64), vectors(12)
    content, direction = layer(h)
    assert content.shape == (12, CHANNELS)
    assert direction.shape == (12, CHANNELS, 3)
    for given, shapes in (
        (h.flatten(1), ((12, CHANNELS), (12, 3 * CHANNELS))),
        (h.view(3, 4, CHANNELS, 3), ((3, 4, CHANNELS), (3, 4, CHANNELS, 3))),
        (h.view(3, 4, 3 * CHANNELS), ((3, 4, CHANNELS), (3, 4, 3 * CHANNELS))),
    ):
        result = layer(given)
        assert (result[0].shape, result[1].shape) == shapes
        assert_equal(joined(result), joined((content, direction)))


def test_directions_are_shorter_than_one_and_saturate() -> None:
    layer = gn.EvNorm(1, eps=0.0, smoothing=0.0, dtype=torch.float64)
    with torch.no_grad():
        layer.kappa.fill_(0.5)
    lengths = torch.tensor([0, 0.5, 2, 1e6], dtype=torch.float64)
    h = lengths[:, None, None] * torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    _, direction = layer(h)
    assert_equal(direction.norm(dim=2)[:, 0], lengths / (lengths + 0.5))
    assert direction.norm(dim=2).max() < 1


@choices
def test_the_least_length_starts_in_the_range_of_the_reference(statistics: str, parametrization: str) -> None:
    layer = gn.EvNorm(1000, statistics, parametrization)
    drawn = layer.kappa if parametrization == "raw" else layer.beta
    low, high = (0.5, 1.5) if parametrization == "raw" else (0.0, 10.0)
    assert low <= drawn.min() < low + 0.02 * (high - low)
    assert high >= drawn.max() > high - 0.02 * (high - low)
    before = drawn.clone()
    randomize(layer)
    layer.reset_parameters()
    assert low <= drawn.min()
    assert drawn.max() <= high
    assert (drawn != before).any()


@pytest.mark.parametrize("smoothing", [1e-4, 0.0])
def test_all_is_finite_to_second_order_at_zero_vectors(smoothing: float) -> None:
    h = vectors()
    h[2], h[5, 1] = 0, 0
    layer = gn.EvNorm(CHANNELS, smoothing=smoothing, dtype=torch.float64)
    found = to_second_order(layer, {"x": h})
    assert all(value.isfinite().all() for value in found.values())
    zeros = to_second_order(layer, {"x": torch.zeros_like(h)})
    assert all(value.isfinite().all() for value in zeros.values())


def test_the_smooth_length_has_a_second_derivative_at_zero_and_the_length_itself_has_none() -> None:
    h = vectors(3, 2)
    h[1] = 0
    h.requires_grad_()
    for smoothing, smooth in ((1e-1, True), (0.0, False)):
        layer = gn.EvNorm(2, smoothing=smoothing, track_running_stats=False, dtype=torch.float64)
        assert torch.autograd.gradcheck(layer, h)
        assert torch.autograd.gradgradcheck(layer, h, atol=1e-6, raise_exception=False) == smooth


def test_the_smooth_length_is_right_for_tiny_and_for_huge_vectors_in_float32() -> None:
    h = vectors(dtype=torch.float32)
    for scale in (1e-30, 1e-6, 1.0, 1e6, 1e25):
        length = smooth_length(scale * h, 1e-4)
        exact = (scale * h).double().square().sum(2)
        exact = exact / ((exact + 1e-8).sqrt() + 1e-4)
        assert_equal((length / scale).double(), exact / scale, f"× {scale}", tolerance=1e-6)


def test_options_that_do_not_exist_are_refused() -> None:
    with refused("statistics are 'graph', expected 'batch' .* or 'node'"):
        gn.EvNorm(4, "graph")
    with refused("parametrization is 'inv', expected 'raw' .* or 'inverse'"):
        gn.EvNorm(4, "batch", "inv")
    with refused("eps is -0.1 and smoothing 0.0001, expected numbers >= 0"):
        gn.EvNorm(4, eps=-0.1)
