"""VectorNeuronNorm: a product, not a pair; about half of all vectors turn round, unless that is ruled out."""

import math

import pytest
import torch
from layers.peers import SIZES, Peer, assert_equal, ragged_batch, randomize
from layers.vector.published import VectorNeuronBatchNorm
from layers.vector.support import CHANNELS, NODES, assert_formula, to_second_order, vectors
from torch import Tensor
from torch.nn.functional import softplus

import geonorm as gn

NAMES = {f"bn.{name}": name for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("reversal", [True, False])
def test_it_computes_its_formula(affine: bool, reversal: bool) -> None:
    def formula(v: Tensor, weight: Tensor | float = 1.0, bias: Tensor | float = 0.0) -> Tensor:
        length = v.norm(dim=2) + 1e-6
        factor = weight * (length - length.mean(0)) / (length.var(0, False) + 1e-5).sqrt() + bias
        return v / length[..., None] * (factor if reversal else softplus(factor))[..., None]

    options = {"affine": affine, "reversal": reversal, "dtype": torch.float64}
    layer = randomize(gn.VectorNeuronNorm(CHANNELS, **options))
    assert_formula(layer, formula, vectors(), batch=(ragged_batch(), len(SIZES)))
    untracked = randomize(gn.VectorNeuronNorm(CHANNELS, track_running_stats=False, **options))
    assert_formula(untracked.eval(), formula, vectors())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_it_is_the_layer_of_the_authors_through_training_and_evaluation(affine: bool, momentum: float | None) -> None:
    options = {"affine": affine, "momentum": momentum}
    names = NAMES if affine else {name: own for name, own in NAMES.items() if own not in ("weight", "bias")}
    peer = Peer(gn.VectorNeuronNorm(CHANNELS, **options), VectorNeuronBatchNorm(CHANNELS, **options), names)
    for step in range(3):
        peer.train().check(vectors(NODES + step))
        peer.check_buffers()
    peer.train(False).check(vectors())
    peer.check_buffers()


def test_the_new_length_is_the_normalized_length_and_the_line_stays() -> None:
    v, layer = vectors(), randomize(gn.VectorNeuronNorm(CHANNELS, dtype=torch.float64))
    y = layer(v)
    batch_norm = torch.nn.BatchNorm1d(CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        batch_norm.weight.copy_(layer.weight), batch_norm.bias.copy_(layer.bias)
    assert (y.norm(dim=2) - batch_norm(v.norm(dim=2)).abs()).abs().max() < 1e-5
    assert_equal(torch.cosine_similarity(y, v, dim=2).abs(), torch.ones(NODES, CHANNELS))


def test_as_many_vectors_are_reversed_as_are_shorter_than_the_mean() -> None:
    # Of vectors with normal components 53 % are: P(|z| < 2 sqrt(2/π)) = erf(m/√2) − sqrt(2/π) m exp(−m²/2).
    mean = 2 * math.sqrt(2 / math.pi)
    expected = math.erf(mean / math.sqrt(2)) - math.sqrt(2 / math.pi) * mean * math.exp(-(mean**2) / 2)
    assert expected == pytest.approx(0.533, abs=1e-3)
    v = torch.randn(20000, CHANNELS, 3)
    y = gn.VectorNeuronNorm(CHANNELS)(v)
    reversed_ones = (y * v).sum(2) < 0
    assert torch.equal(reversed_ones, v.norm(dim=2) < v.norm(dim=2).mean(0))
    assert reversed_ones.double().mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_no_vector_is_reversed_or_lost_where_that_is_ruled_out(training: bool) -> None:
    layer = randomize(gn.VectorNeuronNorm(CHANNELS, reversal=False, dtype=torch.float64))
    layer(vectors())
    v = vectors(1000)
    y = layer.train(training)(v)
    assert_equal(torch.cosine_similarity(y, v, dim=2), torch.ones(1000, CHANNELS))
    assert y.norm(dim=2).min() > 0
    # Longer vectors stay longer where the gain is positive.
    order = v.norm(dim=2).argsort(0)
    assert (y.norm(dim=2).gather(0, order).diff(dim=0) * layer.weight.sign() >= 0).all()


def test_all_is_finite_to_second_order_at_zero_vectors_where_the_code_of_the_authors_has_nan() -> None:
    v = vectors()
    v[3] = 0
    found = to_second_order(gn.VectorNeuronNorm(CHANNELS, dtype=torch.float64), {"x": v})
    assert all(value.isfinite().all() for value in found.values())
    assert_equal(found["output"].view_as(v)[3], torch.zeros(CHANNELS, 3, dtype=torch.float64))
    theirs = to_second_order(VectorNeuronBatchNorm(CHANNELS, dtype=torch.float64), {"x": v})
    assert theirs["gradient by x"].isfinite().all()
    assert theirs["second gradient by x"].isnan().any()


def test_the_map_is_steep_at_zero() -> None:
    layer = gn.VectorNeuronNorm(1, dtype=torch.float64).eval()
    v = torch.zeros(1, 1, 3, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(layer, v).view(3, 3)
    factor = 1e-6 / math.sqrt(1 + 1e-5)  # fresh running statistics: mean 0, variance 1
    assert_equal(slope, torch.eye(3, dtype=torch.float64) * factor / 1e-6)
    layer.running_mean.fill_(1)
    slope = torch.autograd.functional.jacobian(layer, v).view(3, 3)
    assert_equal(slope * 1e-6, torch.eye(3, dtype=torch.float64) * (1e-6 - 1) / math.sqrt(1 + 1e-5))


def test_reset_and_representation() -> None:
    layer = randomize(gn.VectorNeuronNorm(CHANNELS))
    layer(torch.randn(5, CHANNELS, 3))
    layer.reset_parameters()
    fresh = gn.VectorNeuronNorm(CHANNELS).state_dict()
    assert list(fresh) == list(NAMES.values())
    for name, value in layer.state_dict().items():
        assert torch.equal(value, fresh[name]), name
    assert repr(layer) == "VectorNeuronNorm(4)"
    assert repr(gn.VectorNeuronNorm("4x1o", reversal=False)) == "VectorNeuronNorm('4x1o', reversal=False)"
