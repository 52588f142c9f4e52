"""Losses that only ε keeps and no name covers: found in normalizers of mixtures, not in linear maps or networks."""

import pytest
import torch
from torch import Tensor, nn

import geonorm as gn
from geonorm.layers.fields import Fields
from geonorm.match.first_order import first_order
from geonorm.match.inputs import generic_features
from geonorm.match.measurement import Measurement
from geonorm.match.near import derivative_alike, near_losses
from geonorm.match.removed import Removed

F = nn.functional
BATCH = torch.repeat_interleave(torch.arange(2), torch.tensor([4, 5]))
SIZE = torch.tensor([[4.0], [5.0]], dtype=torch.float64)
NAME = "unnamed up to ε"


def matrix(seed: int, rows: int = 8, columns: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator) / rows**0.5


def of_samples(x: Tensor, batch: Tensor) -> Tensor:
    return (torch.zeros(2, x.shape[1], dtype=x.dtype).index_add(0, batch, x) / SIZE)[batch]


def set_norm(x: Tensor, batch: Tensor, eps: float) -> Tensor:
    u = x - of_samples(x, batch).mean(1, keepdim=True)
    return u / (of_samples(u.square(), batch).mean(1, keepdim=True) + eps).sqrt()


def rms(x: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(1, keepdim=True) + eps).sqrt()


MOVED = matrix(1)[0]


def beside_a_constant(x: Tensor, batch: Tensor, eps: float) -> Tensor:
    return set_norm(F.pad(x, (0, 1), value=1.0), batch, eps)[:, :8]


def mixed_batch(x: Tensor, batch: Tensor, eps: float) -> Tensor:
    u = x @ matrix(3)
    u = u - u.mean(0)
    return u / (u.square().mean(0) + eps).sqrt()


def mixed_instance(x: Tensor, batch: Tensor, eps: float) -> Tensor:
    u = x @ matrix(3)
    u = u - of_samples(u, batch)
    return u / (of_samples(u.square(), batch) + eps).sqrt()


def inside_a_network(x: Tensor, batch: Tensor, eps: float) -> Tensor:
    return torch.tanh(rms(x + MOVED, eps) @ matrix(3)) @ matrix(4)


def beside_what_is_kept(x: Tensor, batch: Tensor, eps: float) -> Tensor:
    return torch.cat([x[:, :4], rms(x[:, 4:] + MOVED[:4], eps)], 1)


def outside_of_the_root(x: Tensor, batch: Tensor, eps: float) -> Tensor:
    return (x + MOVED) / ((x + MOVED).norm(dim=1, keepdim=True) + eps)


# What is lost beyond what a name covers: one homothety for each of 2 samples; one scale for each divisor, of which the
# one of all features, or of each sample, has a name.
LOSSES = [
    (beside_a_constant, 2),
    (mixed_batch, 8 - 1),
    (mixed_instance, 16 - 2),
    (inside_a_network, 9),
    (beside_what_is_kept, 9),
    (outside_of_the_root, 9),
]


def removed_by(layer, eps: float, probes: bool = False, seed: int = 0) -> Removed:
    def function(x: Tensor, batch: Tensor, _: int) -> Tensor:
        return layer(x, batch, eps)

    x = generic_features(Fields("8x0e"), (4, 5), seed)
    at = Measurement(function, x, BATCH, "8x0e", "8x0e", seed)
    return first_order(at, x, BATCH, probes=probes, seed=seed, irreps="8x0e")[1]


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-8, 1e-12])
@pytest.mark.parametrize(("layer", "number"), LOSSES, ids=lambda value: getattr(value, "__name__", ""))
def test_all_that_eps_alone_keeps_is_counted_whatever_eps(layer, number: int, eps: float) -> None:
    removed = removed_by(layer, eps)
    assert removed.unnamed + len(removed.near) == number
    if eps == 1e-5:
        report = gn.check(lambda x, batch: layer(x, batch, eps), "8x0e")
        assert not report.matched
        assert report.added[NAME] == number
        assert f"{NAME}: {number} directions, singular values up to {removed.near[0]:.0e}" in str(report)
        assert report.to_dict()["states"][0]["near"] == list(removed.near)


def test_the_singular_values_are_those_that_eps_leaves() -> None:
    one, ten = (torch.tensor(removed_by(beside_a_constant, eps).near) for eps in (1e-6, 1e-5))
    torch.testing.assert_close(ten / one, torch.full((2,), 10.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("layer", [beside_a_constant, outside_of_the_root], ids=lambda f: f.__name__)
def test_probes_find_them_too(layer) -> None:
    assert {len(removed_by(layer, 1e-5, True, seed).near) for seed in range(2)} == {dict(LOSSES)[layer]}


ACTIVATIONS = [torch.tanh, torch.relu, F.gelu, F.softsign, torch.atan, torch.sin, F.softplus]


def network(activation, seed: int):
    """Two to four layers of random weights, some of them large, some beside a part that is passed on."""
    depth, gain = 2 + seed % 3, (1, 2, 0.5, 5)[seed % 4]
    weights = [gain * matrix(100 * seed + n) for n in range(depth)]

    def run(x: Tensor) -> Tensor:
        y = x
        for number, weight in enumerate(weights):
            y = y @ weight + 0.5 * matrix(seed)[number]
            y = activation(y) if number + 1 < depth else y
        return torch.cat([x[:, :3], y], 1) if seed % 2 else y

    return run


def spectrum_of(function, known: int, x: Tensor):
    def spectrum(factor: float) -> Tensor:
        jacobian = torch.func.jacrev(function)(factor * x).reshape(-1, x.numel())
        return torch.linalg.svdvals(jacobian).flip(0)[known:]

    return spectrum


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda f: f.__name__)
def test_small_singular_values_of_networks_are_no_losses(activation) -> None:
    small = 0
    for seed in range(24):
        x = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        spectrum = spectrum_of(network(activation, seed), 0, x)
        values = spectrum(1.0)
        exact = int((values <= 1e-9 * values[-1]).sum())
        spectrum = spectrum_of(network(activation, seed), exact, x)
        small += bool(values[exact] <= 3e-2 * values[-1])
        assert near_losses(values[exact:], values[-1].item(), spectrum) == (), seed
    assert small > 12  # the question was asked


def test_a_linear_map_of_any_spectrum_loses_nothing() -> None:
    for seed in range(50):
        left, _, right = torch.linalg.svd(matrix(seed, 72, 72))
        wide = left @ torch.diag(torch.logspace(0, -8, 72, dtype=torch.float64)) @ right
        values = torch.logspace(-8, 0, 72, dtype=torch.float64)
        assert near_losses(values, 1.0, lambda _, wide=wide: torch.linalg.svdvals(wide).flip(0)) == ()


@pytest.mark.parametrize("probes", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_linear_layer_of_random_weights_is_no_loss(seed: int, probes: bool) -> None:
    assert gn.check(lambda x: x @ matrix(seed), 8, probes=probes).states[0].removed.near == ()


def test_one_row_of_every_block_at_a_time_gives_the_jacobian_or_else_it_is_taken_as_a_whole() -> None:
    x = generic_features(Fields("16x0e"), (4, 5))

    def channels(x: Tensor) -> Tensor:  # blocks of nine; far from zero, each channel feels the next one, too
        u = x - x.mean(0)
        far = torch.relu(x.abs() - 5).sum() * x.roll(1, 1)
        return u / (u.square().mean(0) + 1e-5).sqrt() + far

    matrix = torch.func.jacrev(channels)(x).reshape(144, 144)
    for factor in (2.0 / x.abs().max().item(), 8.0):
        whole = torch.func.jacrev(channels)(factor * x).reshape(144, 144)
        torch.testing.assert_close(derivative_alike(channels, factor * x, matrix), whole)


@pytest.mark.parametrize(("eps", "expected"), [(0.01, (0.01,)), (0.5, ())])
def test_what_a_large_eps_keeps_is_kept_although_it_fades_like_a_loss(eps: float, expected: tuple) -> None:
    """At the input as it is, the direction has the size ε beside those kept; a small value that is kept is no loss."""

    def spectrum(c: float) -> Tensor:
        kept = torch.tensor([0.02, 1.0, 1.0, 1.0], dtype=torch.float64) / c
        return torch.cat([torch.tensor([eps / c**3], dtype=torch.float64), kept])

    found = near_losses(spectrum(1.0).sort().values, 1.0, spectrum)
    assert found == pytest.approx(expected)
