"""DensityNorm: a neighbour count without a jump."""

import math

import pytest
import torch
from e3nn import o3
from e3nn.math import soft_one_hot_linspace
from e3nn.nn import FullyConnectedNet
from layers.peers import assert_equal, assert_same_function, features, randomize, refused
from nequip.nn.embedding import PolynomialCutoff
from torch import Tensor

import geonorm as gn
from geonorm.layers.fields import Vectors
from geonorm.layers.modern.density import envelope

CUTOFF, CHANNELS, NODES = 4.5, 4, 6
RECEIVERS = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4])


def lengths() -> Tensor:
    """Edges of all lengths; the last lies beyond the cutoff."""
    return torch.linspace(0.7, 4.6, len(RECEIVERS), dtype=torch.float64)


def made(channels: object = CHANNELS, **options) -> gn.DensityNorm:
    """A layer in float64."""
    return gn.DensityNorm(channels, CUTOFF, dtype=torch.float64, **options)


@pytest.mark.parametrize("power", [2, 5, 6, 9])
def test_the_envelope_is_the_polynomial_cutoff_of_nequip(power: int) -> None:
    r = torch.linspace(0, 1.2 * CUTOFF, 50, dtype=torch.float64)
    assert_same_function(
        lambda r: envelope(r / CUTOFF, power), lambda r: PolynomialCutoff(p=power)(r / CUTOFF), {"r": r}
    )


def test_the_envelope_keeps_its_digits_next_to_the_cutoff() -> None:
    # The value is about 35 (1 − t)³; the printed sum is a difference of numbers up to 35.
    distance = torch.tensor([1e-1, 1e-2, 1e-3])
    t = 1 - distance
    exact = envelope(t.double(), 5)
    assert torch.allclose(envelope(t, 5).double(), exact, rtol=1e-6, atol=0)
    printed = 1 - 21 * t**5 + 35 * t**6 - 15 * t**7
    assert not torch.allclose(printed.double(), exact, rtol=1e-2, atol=0)


def test_the_density_is_the_one_of_mace() -> None:
    # mace: FullyConnectedNet([8, 1], silu) of the Bessel basis, squared, under a tanh, times the cutoff function.
    network = FullyConnectedNet([8, 1], torch.nn.functional.silu).double()
    layer = made()
    with torch.no_grad():
        layer.weights[0].copy_(network.layer0.weight)

    def theirs(x: Tensor, r: Tensor) -> Tensor:
        basis = soft_one_hot_linspace(r, 0.0, CUTOFF, 8, "bessel", cutoff=True)
        share = torch.tanh(network(basis) ** 2)[:, 0] * PolynomialCutoff(p=5)(r / CUTOFF)
        return x / (torch.zeros(NODES, dtype=r.dtype).index_add(0, RECEIVERS, share) + 1)[:, None]

    given = {"x": features(NODES, CHANNELS), "r": lengths()[:-1].clone()}
    given["r"] = torch.cat([given["r"], torch.tensor([4.4], dtype=torch.float64)])
    assert_same_function(lambda x, r: layer(x, r, RECEIVERS), theirs, given)


def test_a_hidden_layer_makes_phi_a_perceptron() -> None:
    layer = randomize(made(hidden=5, num_basis=3))
    r = lengths()[:-1]
    basis = soft_one_hot_linspace(r, 0.0, CUTOFF, 3, "bessel", cutoff=True)
    hidden = torch.nn.functional.silu(basis @ layer.weights[0] / 3**0.5)
    assert_equal(layer.phi(r / CUTOFF), (hidden @ layer.weights[1])[:, 0] / 5**0.5)
    assert [tuple(weight.shape) for weight in layer.weights] == [(3, 5), (5, 1)]


def test_without_learning_it_is_the_smooth_number_of_neighbours() -> None:
    layer, x = made(learned=False), features(NODES, CHANNELS)
    assert not list(layer.parameters())
    # Deep inside the cutoff every neighbour counts for one: the mean with one more.
    near = torch.full((len(RECEIVERS),), 1e-3 * CUTOFF, dtype=torch.float64)
    count = gn.count_neighbors(RECEIVERS, NODES)
    assert_equal(layer(x, near, RECEIVERS), x / (count + 1)[:, None], tolerance=1e-11)
    assert_equal(layer.density(near, RECEIVERS, NODES), count.double(), tolerance=1e-11)
    assert_equal(layer(x, near, RECEIVERS), gn.NeighborNorm(CHANNELS)(x, count + 1), tolerance=1e-11)


def crossing(apply, before: float = -1e-9, after: float = 1e-9) -> float:
    """The relative change of the result when the distance of the last edge crosses the cutoff."""
    results = [apply(torch.tensor(CUTOFF + side, dtype=torch.float64)) for side in (before, after)]
    return float((results[1] - results[0]).norm() / results[0].norm())


def test_nothing_jumps_at_the_cutoff_where_the_neighbour_count_does() -> None:
    # Three neighbours, one of them on its way out, with messages that fade smoothly.
    messages = torch.randn(3, CHANNELS, dtype=torch.float64)
    receivers, fixed = torch.zeros(3, dtype=torch.long), torch.tensor([1.5, 2.5], dtype=torch.float64)
    density, plain = made(), gn.NeighborNorm(CHANNELS)

    def summed(r: Tensor) -> tuple[Tensor, Tensor]:
        all_lengths = torch.cat([fixed, r[None]])
        return (messages * envelope(all_lengths / CUTOFF, 5)[:, None]).sum(0, keepdim=True), all_lengths

    @torch.no_grad()
    def with_density(r: Tensor) -> Tensor:
        x, all_lengths = summed(r)
        return density(x, all_lengths, receivers)

    def with_count(r: Tensor) -> Tensor:
        x, all_lengths = summed(r)
        return plain(x, (all_lengths < CUTOFF).sum()[None])

    assert crossing(with_count) == pytest.approx(0.5, abs=1e-6)  # from a third to a half
    assert crossing(with_density) < 1e-15


@pytest.mark.parametrize("learned", [True, False])
def test_two_derivatives_are_continuous_at_the_cutoff(learned: bool) -> None:
    layer = made(1, learned=learned)
    found = []
    for side in (-1e-7, 1e-7):
        r = torch.tensor([CUTOFF + side], dtype=torch.float64, requires_grad=True)
        y = layer(torch.ones(1, 1, dtype=torch.float64), r, torch.zeros(1, dtype=torch.long))
        (first,) = torch.autograd.grad(y.sum(), r, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), r, create_graph=True)
        (third,) = torch.autograd.grad(second.sum(), r)
        found.append([value.item() for value in (y, first, second, third)])
    inside, outside = found
    assert outside == [1.0, 0.0, 0.0, 0.0]
    assert inside[0] == pytest.approx(1, abs=1e-15)
    assert inside[1] == pytest.approx(0, abs=1e-12)
    assert inside[2] == pytest.approx(0, abs=1e-5)
    assert learned or abs(inside[3]) > 1  # and not more than two: (1 − t)³


@pytest.mark.parametrize("options", [{}, {"hidden": 4}, {"learned": False}], ids=str)
def test_derivatives_are_exact(options: dict) -> None:
    layer = made("1x0e+1x1o", num_basis=3, **options)
    names = [name for name, _ in layer.named_parameters()]

    def apply(x: Tensor, r: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, r, RECEIVERS))

    inputs = (features(NODES, 4), lengths(), *layer.parameters())
    inputs = tuple(value.detach().requires_grad_() for value in inputs)
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)


def test_every_node_may_be_rotated_by_itself_and_edges_may_come_in_any_order() -> None:
    irreps = o3.Irreps("2x0e+1x1o+1x2e")
    layer, x, r = made(str(irreps)), features(NODES, irreps.dim), lengths()
    d = irreps.D_from_angles(*o3.rand_angles(NODES, dtype=torch.float64), torch.arange(NODES) % 2)

    def rotate(tensor: Tensor) -> Tensor:
        return torch.einsum("nij,nj->ni", d, tensor)

    assert_equal(layer(rotate(x), r, RECEIVERS), rotate(layer(x, r, RECEIVERS)))
    order = torch.randperm(len(r))
    assert_equal(layer(x, r[order], RECEIVERS[order]), layer(x, r, RECEIVERS))
    vectors = torch.randn(NODES, 2, 3, dtype=torch.float64)
    expected = vectors / (made(Vectors(2), learned=False).density(r, RECEIVERS, NODES) + 1)[:, None, None]
    assert_equal(made(Vectors(2), learned=False)(vectors, r, RECEIVERS), expected)


def test_a_node_without_neighbours_keeps_its_features() -> None:
    layer, x = made(), features(NODES, CHANNELS)
    y = layer(x, lengths(), RECEIVERS)
    assert torch.equal(y[5], x[5])
    assert not torch.equal(y[0], x[0])
    assert torch.equal(layer(x, lengths()[:0], RECEIVERS[:0]), x)
    assert torch.equal(layer(x, lengths() + CUTOFF, RECEIVERS), x)
    assert layer(x[:0], lengths()[:0], RECEIVERS[:0]).shape == (0, CHANNELS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("distance", [0.0, 1e-8, 1e30, math.inf])
def test_strange_distances_have_finite_derivatives(distance: float, dtype: torch.dtype) -> None:
    layer = gn.DensityNorm(1, CUTOFF, hidden=3, dtype=dtype)
    x = torch.ones(1, 1, dtype=dtype).requires_grad_()
    r = torch.tensor([distance], requires_grad=True)
    y = layer(x, r, torch.zeros(1, dtype=torch.long))
    assert y.dtype == dtype
    first = torch.autograd.grad(y.sum(), [x, r, *layer.parameters()], create_graph=True)
    second = torch.autograd.grad(sum(value.sum() for value in first), [x, r, *layer.parameters()], allow_unused=True)
    assert all(value is None or value.isfinite().all() for value in (y, *first, *second))


def test_many_neighbours_are_counted_in_float32_for_half_precision() -> None:
    layer = gn.DensityNorm(1, CUTOFF, learned=False, dtype=torch.bfloat16)
    number = 5000  # bfloat16 counts to 256
    r = torch.full((number,), 1e-3)
    y = layer(torch.full((1, 1), 5001.0), r, torch.zeros(number, dtype=torch.long))
    assert y.item() == pytest.approx(1, rel=1e-5)


def test_reset_state_and_representation() -> None:
    layer, other = made(hidden=2), made(hidden=2)
    before = [weight.clone() for weight in layer.weights]
    layer.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(layer.weights, before, strict=True))
    other.load_state_dict(layer.state_dict())
    x = features(NODES, CHANNELS)
    assert_equal(other(x, lengths(), RECEIVERS), layer(x, lengths(), RECEIVERS))
    assert repr(layer) == "DensityNorm(4, cutoff=4.5)"
    assert repr(made(learned=False)) == "DensityNorm(4, cutoff=4.5, learned=False)"


def test_what_does_not_fit_is_refused() -> None:
    layer, x = made(), features(NODES, CHANNELS)
    with refused(r"distances have shape \[3\] and receivers \[2\], expected \[edges\] for both"):
        layer(x, lengths()[:3], RECEIVERS[:2])
    with refused(r"distances have shape \[11, 1\]"):
        layer(x, lengths()[:, None], RECEIVERS)
    with refused("distances has dtype torch.int64"):
        layer(x, lengths().long(), RECEIVERS)
    with refused(r"x has shape \[6, 3\]"):
        layer(x[:, :3], lengths(), RECEIVERS)
    for cutoff in (0.0, -1.0, math.nan, math.inf):
        with refused("cutoff is .*, expected a positive distance"):
            gn.DensityNorm(4, cutoff)
    for options in ({"num_basis": 0}, {"hidden": -1}, {"power": 1}):
        with refused("expected at least 1, 0 and 2"):
            gn.DensityNorm(4, 5.0, **options)
