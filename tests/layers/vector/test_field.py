"""VectorFieldNorm: three readings of one sentence, equal to e3nn's BatchNorm on everything that rotates."""

import pytest
import torch
from e3nn.nn import BatchNorm as E3nnBatchNorm
from layers.peers import SIZES, Peer, assert_equal, features, ragged_batch, randomize
from layers.vector.published import roteqnet_3d, roteqnet_matlab
from layers.vector.support import CHANNELS, NODES, assert_formula, to_second_order, vectors
from torch import Tensor

import geonorm as gn

READINGS = {
    "components": {},
    "lengths": {"per_component": False},
    "centred": {"center_magnitude": True},
}
readings = pytest.mark.parametrize("reading", READINGS)
dims = pytest.mark.parametrize("dim", [1, 2, 3, 5])


def square(v: Tensor, reading: str) -> Tensor:
    """s² of every channel."""
    length = v.square().sum(2).sqrt()
    if reading == "centred":
        return length.var(0, unbiased=False)
    return v.square().sum(2).mean(0) / (v.shape[2] if reading == "components" else 1)


@readings
@dims
@pytest.mark.parametrize("affine", [True, False])
def test_it_computes_its_formula(reading: str, dim: int, affine: bool) -> None:
    def formula(v: Tensor, weight: Tensor | None = None) -> Tensor:
        y = v / (square(v, reading) + 1e-5).sqrt()[:, None]
        return y if weight is None else y * weight[:, None]

    options = {"affine": affine, "dtype": torch.float64, **READINGS[reading]}
    layer = randomize(gn.VectorFieldNorm(CHANNELS, dim, **options))
    assert_formula(layer, formula, vectors(dim=dim), batch=(ragged_batch(), len(SIZES)))
    untracked = randomize(gn.VectorFieldNorm(CHANNELS, dim, track_running_stats=False, **options))
    assert_formula(untracked.eval(), formula, vectors(dim=dim))


@readings
@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_have_the_conventions_of_torch(reading: str, momentum: float | None) -> None:
    layer = randomize(gn.VectorFieldNorm(CHANNELS, momentum=momentum, dtype=torch.float64, **READINGS[reading]))
    expected = torch.ones(CHANNELS, dtype=torch.float64)
    for step in range(1, 4):
        v = step * vectors(NODES + step)
        layer(v, ragged_batch((NODES + step,)), 1)
        s2 = square(v, reading) * (len(v) / (len(v) - 1) if reading == "centred" else 1)
        expected = expected + (1 / step if momentum is None else momentum) * (s2 - expected)
        assert_equal(layer.running_var, expected)
        assert layer.num_batches_tracked == step

    def formula(v: Tensor, weight: Tensor) -> Tensor:
        return weight[:, None] * v / (expected + 1e-5).sqrt()[:, None]

    assert_formula(layer.eval(), formula, vectors())


@readings
def test_directions_never_change_and_lengths_get_the_spread_that_is_named(reading: str) -> None:
    v = vectors(200)
    y = gn.VectorFieldNorm(CHANNELS, eps=1e-14, dtype=torch.float64, **READINGS[reading])(v)
    assert_equal(torch.cosine_similarity(y, v, dim=2), torch.ones(200, CHANNELS))
    one = torch.ones(CHANNELS, dtype=torch.float64)
    spread = {
        "components": y.square().mean((0, 2)),
        "lengths": y.square().sum(2).mean(0),
        "centred": y.norm(dim=2).var(0, unbiased=False),
    }
    assert_equal(spread[reading], one)
    assert (spread["components" if reading == "centred" else "centred"] - 1).abs().min() > 0.1


@pytest.mark.parametrize("normalization", ["component", "norm"])
@pytest.mark.parametrize("irreps", ["4x1o", "4x1o+3x0o+2x2e+1x1e"])
def test_it_is_the_batch_norm_of_e3nn_on_every_type_but_invariants(irreps: str, normalization: str) -> None:
    ours = gn.VectorFieldNorm(irreps, per_component=normalization == "component")
    theirs = E3nnBatchNorm(irreps, normalization=normalization)
    names = {"weight": "weight", "running_var": "running_var", "bias": "", "running_mean": ""}
    state = {name: value for name, value in theirs.double().state_dict().items() if value.numel()}
    assert all(names[name] for name in state)
    randomize(theirs)
    ours.double().load_state_dict(
        {"weight": theirs.weight, "running_var": theirs.running_var, "num_batches_tracked": torch.tensor(0)}
    )
    for step in range(3):
        x = features(NODES + step, ours.fields.dim).requires_grad_()
        y, expected = ours(x), theirs(x)
        assert_equal(y, expected)
        functional = torch.randn_like(y)
        for given, wanted in zip(
            torch.autograd.grad((y * functional).sum(), [x, ours.weight]),
            torch.autograd.grad((expected * functional).sum(), [x, theirs.weight]),
            strict=True,
        ):
            assert_equal(given, wanted)
        assert_equal(ours.running_var, theirs.running_var)
    assert_equal(ours.eval()(x), theirs.eval()(x))


def test_on_the_line_it_is_variance_norm_in_the_reading_of_the_theory() -> None:
    # "Practically identical to VarianceNorm": true of second moments, not of the standard deviation that is printed.
    x = features(NODES, CHANNELS)
    for readings_agree, statistic in ((True, "rms"), (False, "std")):
        ours, theirs = gn.VectorFieldNorm(CHANNELS, dim=1), gn.VarianceNorm(CHANNELS, statistic)
        difference = (ours(x[..., None])[..., 0] - theirs(x)).abs().max()
        assert (difference < 1e-12) == readings_agree


def test_it_is_the_quaternion_norm_with_a_gain() -> None:
    layer = gn.VectorFieldNorm(CHANNELS, affine=False)
    Peer(layer, gn.QuaternionNorm(CHANNELS)).check(vectors())


def test_in_the_plane_it_is_the_code_of_the_authors() -> None:
    v, layer = vectors(dim=2), randomize(gn.VectorFieldNorm(CHANNELS, dim=2, eps=1e-4, dtype=torch.float64))
    assert_equal(layer(v), roteqnet_matlab(v, layer.weight))


def test_a_remake_divides_by_a_sum_and_leaves_a_spread_that_shrinks_with_the_batch() -> None:
    for nodes in (25, 375):
        v = vectors(nodes)
        spread = roteqnet_3d(v).norm(dim=2).std(0, unbiased=False)
        assert (spread - nodes**-0.5).abs().max() < 1e-5
        ours = gn.VectorFieldNorm(CHANNELS, center_magnitude=True, eps=1e-14, dtype=torch.float64)(v)
        assert_equal(ours.norm(dim=2).std(0, unbiased=False), torch.ones(CHANNELS, dtype=torch.float64))
        assert (nodes**0.5 * roteqnet_3d(v) - ours).abs().max() < 1e-4 * nodes**0.5
    assert nodes**-0.5 == pytest.approx(0.0516, abs=1e-4)


@readings
def test_all_is_finite_to_second_order_at_zero_vectors(reading: str) -> None:
    layer = gn.VectorFieldNorm(CHANNELS, dtype=torch.float64, **READINGS[reading])
    v = vectors()
    v[2], v[4, 1] = 0, 0
    for given in (v, torch.zeros_like(v), v[:1], v[:0]):
        found = to_second_order(layer, {"x": given})
        assert all(value.isfinite().all() for value in found.values())
        assert layer.running_var.isfinite().all()


def test_lengths_that_are_all_equal_have_no_spread_and_are_divided_by_the_root_of_eps() -> None:
    v = torch.nn.functional.normalize(vectors(), dim=2)
    y = gn.VectorFieldNorm(CHANNELS, center_magnitude=True, eps=1e-4, dtype=torch.float64)(v)
    assert_equal(y, 100 * v)


def test_the_representation_names_the_reading() -> None:
    assert repr(gn.VectorFieldNorm(4)) == "VectorFieldNorm(4)"
    assert repr(gn.VectorFieldNorm(4, 2)) == "VectorFieldNorm(4, dim=2)"
    assert repr(gn.VectorFieldNorm(4, per_component=False)) == "VectorFieldNorm(4, per_component=False)"
    assert repr(gn.VectorFieldNorm("4x1o", center_magnitude=True)) == "VectorFieldNorm('4x1o', center_magnitude=True)"
