"""Rows that normalize weights, on maps between vector channels: what they normalize and whether vectors still turn."""

import copy
import io
import math

import pytest
import torch
from e3nn import o3
from layers.peers import assert_equal, difference, randomize, refused
from torch import Tensor, nn
from torch.func import functional_call

import geonorm as gn
from geonorm.match import random_rotations, rotate

IN, OUT = 5, 4
NORMALIZATIONS = [gn.weight_norm, gn.spectral_norm, gn.scaled_weight_standardization]
every_normalization = pytest.mark.parametrize("normalize", NORMALIZATIONS)

#: Input, output, paths and path normalization: simple, with scalars and a bias, split terms, some paths only.
MAPS = {
    "vectors": ("5x1o", "4x1o", {}),
    "types": ("3x0e+2x0o+5x1o+2x2e", "2x0e+3x0o+4x1o+0x1e+2x2e", {"biases": True}),
    "split": ("2x1o+3x0e+3x1o", "4x1o+2x0e+2x1o", {"path_normalization": "path"}),
    "some paths": ("2x1o+3x1o+2x0e", "4x1o+2x0e+2x1o", {"instructions": [(1, 0), (0, 2), (1, 2), (2, 1)]}),
}
every_map = pytest.mark.parametrize("name", MAPS)


def e3nn_linear(name: str = "types") -> o3.Linear:
    """A map between irreps in float64, with its path normalization."""
    irreps_in, irreps_out, options = MAPS[name]
    return randomize(o3.Linear(irreps_in, irreps_out, **options).double())


def matrices(linear: o3.Linear) -> dict[str, Tensor]:
    """The matrix over channels of every type, read off what the map does to unit vectors; holes are exact zeros."""
    before, after = linear.irreps_in, linear.irreps_out
    constant = linear(torch.zeros(1, before.dim, dtype=torch.float64))
    whole = (linear(torch.eye(before.dim, dtype=torch.float64)) - constant).T
    found = {}
    for irrep in dict.fromkeys(after[i.i_out].ir for i in linear.instructions if i.i_in >= 0 and 0 not in i.path_shape):

        def first_components(irreps: o3.Irreps, irrep: o3.Irrep = irrep) -> list[int]:
            places = zip(irreps, irreps.slices(), strict=True)
            return [
                c for (_, kind), place in places if kind == irrep for c in range(place.start, place.stop, irrep.dim)
            ]

        found[str(irrep)] = whole[first_components(after)][:, first_components(before)]
    return found


# What is normalized


@every_map
def test_weight_norm_changes_nothing_at_first_and_then_gives_each_output_channel_its_length(name: str) -> None:
    linear = e3nn_linear(name)
    before = matrices(linear)
    assert gn.weight_norm(linear) is linear
    for kind, matrix in matrices(linear).items():
        assert_equal(matrix, before[kind])
    gain, direction = linear.parametrizations.weight.original0, linear.parametrizations.weight.original1
    assert gain.shape == (sum(len(matrix) for matrix in before.values()), 1)
    with torch.no_grad():
        gain.copy_(torch.arange(1.0, len(gain) + 1)[:, None])
        direction.mul_(7)
    gains = iter(range(1, len(gain) + 1))
    for kind, matrix in matrices(linear).items():
        unit = before[kind] / before[kind].norm(dim=1, keepdim=True)
        assert_equal(matrix, unit * torch.tensor([[next(gains)] for _ in matrix]), kind)


@every_map
def test_spectral_norm_divides_each_type_by_its_largest_singular_value(name: str) -> None:
    linear = e3nn_linear(name)
    before = matrices(linear)
    assert gn.spectral_norm(linear, n_power_iterations=300) is linear
    linear.train()
    for kind, matrix in matrices(linear).items():
        assert_equal(matrix, before[kind] / torch.linalg.matrix_norm(before[kind], 2), kind, 1e-9)


@every_map
def test_scaled_weight_standardization_standardizes_the_fan_in_of_each_output_channel(name: str) -> None:
    linear = e3nn_linear(name)
    before = matrices(linear)
    assert gn.scaled_weight_standardization(linear, nonlinearity="relu") is linear
    constant = math.sqrt(2 / (1 - 1 / math.pi))
    for kind, matrix in matrices(linear).items():
        for row, old in zip(matrix, before[kind], strict=True):
            present = old != 0  # random weights are zero where there is no path
            assert (row[~present] == 0).all()
            centred = old[present] - old[present].mean()
            assert_equal(row[present], constant * centred / centred.norm(), kind)


def test_the_gain_of_scaled_weight_standardization_belongs_to_an_output_channel() -> None:
    linear = e3nn_linear("split")
    before = matrices(gn.scaled_weight_standardization(linear))
    gain = linear.parametrizations.weight[0].gain
    with torch.no_grad():
        gain.copy_(torch.arange(1.0, len(gain) + 1))
    gains = iter(range(1, len(gain) + 1))
    for kind, matrix in matrices(linear).items():
        assert_equal(matrix, before[kind] * torch.tensor([[next(gains)] for _ in matrix]), kind)


def test_a_vector_added_to_all_channels_of_a_node_is_lost_by_standardized_weights() -> None:
    linear = gn.scaled_weight_standardization(o3.Linear("5x1o+3x2e", "4x1o+2x2e").double())
    x = torch.randn(7, 30, dtype=torch.float64)
    vector, tensor = torch.randn(7, 1, 3, dtype=torch.float64), torch.randn(7, 1, 5, dtype=torch.float64)
    shift = torch.cat([vector.expand(7, 5, 3).flatten(1), tensor.expand(7, 3, 5).flatten(1)], 1)
    assert_equal(linear(x + shift), linear(x))
    free = o3.Linear("5x1o+3x2e", "4x1o+2x2e").double()
    assert difference(free(x + shift), free(x)) > 0.1


# Rotations


@every_normalization
@every_map
def test_maps_of_irreps_stay_equivariant(normalize, name: str) -> None:
    linear = randomize(normalize(e3nn_linear(name))).eval()
    x = torch.randn(6, linear.irreps_in.dim, dtype=torch.float64)
    turn = random_rotations(6, improper=True)
    assert_equal(linear(rotate(x, turn, linear.irreps_in)), rotate(linear(x), turn, linear.irreps_out))


@every_normalization
def test_maps_of_vectors_commute_with_rotations_when_their_channel_matrix_is_normalized(normalize) -> None:
    turn = random_rotations(1)[0]
    vectors = torch.randn(7, 3, IN, dtype=torch.float64)  # the map acts on the last axis, the channels
    module = normalize(nn.Linear(IN, OUT, bias=False, dtype=torch.float64)).eval()
    assert_equal(module(turn @ vectors), turn @ module(vectors))


def flattened(out: int = OUT, fan_in: int = IN) -> nn.Linear:
    """A map of vectors whose components are columns: W ⊗ I₃."""
    module = nn.Linear(3 * fan_in, 3 * out, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.kron(torch.randn(out, fan_in), torch.eye(3)))
    return module


def commutator(weight: Tensor) -> float:
    """How far from commuting with rotations, relative to the weight."""
    turn, eye = random_rotations(1)[0].contiguous(), torch.eye
    left, right = (torch.kron(eye(size // 3, dtype=turn.dtype), turn) for size in weight.shape)
    return difference(left @ weight, weight @ right)


def test_only_standardization_breaks_rotations_when_components_are_columns() -> None:
    long, divided = gn.weight_norm(flattened()), gn.spectral_norm(flattened())
    with torch.no_grad():  # trained as rotations allow: one gain for the three rows of a channel
        long.parametrizations.weight.original0.mul_(torch.rand(OUT, 1).repeat_interleave(3, 0))
    assert max(commutator(long.weight), commutator(divided.eval().weight)) < 1e-14
    broken = gn.scaled_weight_standardization(flattened(), allow_illegal=True)
    assert 0.1 < commutator(broken.weight) < 1


@pytest.mark.parametrize("components", ["last", "first"])
def test_standardizing_the_components_of_vectors_is_refused(components: str) -> None:
    module = flattened()
    if components == "first":
        with torch.no_grad():
            module.weight.copy_(torch.kron(torch.eye(3), torch.randn(OUT, IN)))
    with refused(
        r"the weight 'weight' of shape \[12, 15\] acts alike on three components of vectors, expected a matrix over "
        r"channels: .*Use nn.Linear\(5, 4, bias=False\) on the channels of x.mT, or e3nn.o3.Linear \(allow_illegal"
    ):
        gn.scaled_weight_standardization(module)


@pytest.mark.parametrize(
    "weight", [torch.randn(12, 15), torch.zeros(12, 15), torch.kron(torch.ones(5, 4), torch.eye(2))]
)
def test_scalars_are_not_taken_for_vectors(weight: Tensor) -> None:
    module = nn.Linear(*weight.T.shape)
    with torch.no_grad():
        module.weight.copy_(weight)
    gn.scaled_weight_standardization(module)
    assert_equal(module.weight.sum(1), torch.zeros(len(weight)), tolerance=1e-5)


# Modules


@every_normalization
def test_both_derivatives_by_the_weights_are_exact(normalize) -> None:
    linear = randomize(normalize(o3.Linear("2x0e+3x1o", "2x1o+1x0e").double())).eval()
    if normalize is gn.scaled_weight_standardization:
        linear = randomize(normalize(o3.Linear("2x0e+2x1o", "2x1o+1x0e").double()))
    x, names = torch.randn(2, linear.irreps_in.dim, dtype=torch.float64), dict(linear.named_parameters())

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(linear, dict(zip(names, values, strict=True)), (x,))

    inputs = [value.detach().requires_grad_() for value in (x, *names.values())]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@every_normalization
@every_map
def test_state_dicts_copies_and_dtypes(normalize, name: str) -> None:
    linear = randomize(normalize(e3nn_linear(name)))
    x = torch.randn(6, linear.irreps_in.dim, dtype=torch.float64)
    linear(x)
    linear.eval()
    stored = io.BytesIO()
    torch.save(linear.state_dict(), stored)
    stored.seek(0)
    fresh = normalize(e3nn_linear(name)).eval()
    fresh.load_state_dict(torch.load(stored))
    assert_equal(fresh(x), linear(x))
    copied = copy.deepcopy(linear)
    assert_equal(copied(x), linear(x))
    with torch.no_grad():
        for value in copied.parameters():
            value.add_(1)
    assert_equal(fresh(x), linear(x))
    there_and_back = normalize(o3.Linear(linear.irreps_in, linear.irreps_out, **MAPS[name][2])).double().eval()
    there_and_back.load_state_dict(linear.state_dict())
    assert_equal(there_and_back(x), linear(x))
    assert_equal(copy.deepcopy(linear).to(torch.bfloat16).weight.double(), linear.weight, tolerance=2e-2)


def test_maps_that_are_not_linear_in_one_input_or_have_no_weights_are_refused() -> None:
    product = o3.FullyConnectedTensorProduct("2x1o", "2x1o", "2x0e")
    with refused(r"the weight 'weight' of FullyConnectedTensorProduct is flat, of shape \[8\], expected a matrix"):
        gn.spectral_norm(product)
    with refused(r"has a weight of shape \[0\], expected one flat weight of its own"):
        gn.weight_norm(o3.Linear("2x1o", "2x1o", internal_weights=False))
    with refused(r"has a weight of shape \[2, 3, 4\], expected one flat weight of its own"):
        gn.weight_norm(o3.Linear("2x1o", "2x1o", f_in=2, f_out=3))
    with refused(r"has the paths \[\], expected"):
        gn.weight_norm(o3.Linear("2x1o", "2x1e"))
    with refused("expected one or none between two terms"):
        gn.weight_norm(o3.Linear("2x1o", "2x1o", instructions=[(0, 0), (0, 0)]))
    with refused(r"shape \[5\] and an output unit of fan-in 1: standardizing needs a fan-in of at least two"):
        gn.scaled_weight_standardization(o3.Linear("1x0e+2x1o", "1x0e+2x1o"))
