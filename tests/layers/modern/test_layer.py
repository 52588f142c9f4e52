"""Layer normalizations of irreps: the formulas of Equiformer, EquiformerV2 and fairchem, in their own layout."""

import pytest
import torch
from layers.modern.irreps import (
    BATCH,
    IRREPS,
    NODES,
    action,
    assert_irreps_formula,
    assert_same_to_second_order,
    features,
    terms,
)
from layers.peers import assert_equal, difference, randomize
from torch import Tensor, nn

import geonorm as gn

#: Degrees up to L with the same number of channels, as EquiformerV2 has them: ``[nodes, (L + 1)², channels]``.
L, CHANNELS = 3, 4
STACK = "4x0e+4x1o+4x2e+4x3o"
EPS = 1e-5


def stacked(x: Tensor) -> Tensor:
    """From e3nn's layout to spherical components times channels."""
    return torch.cat([block.transpose(1, 2) for block, _, _ in terms(STACK, x)], 1)


def unstacked(x: Tensor) -> Tensor:
    """And back."""
    parts = x.split([2 * degree + 1 for degree in range(L + 1)], 1)
    return torch.cat([part.transpose(1, 2).flatten(1) for part in parts], 1)


def of_degree(values: Tensor) -> Tensor:
    """One row for each degree, once for each of its components."""
    return values.repeat_interleave(torch.tensor([2 * degree + 1 for degree in range(L + 1)]), 0)


def centred(x: Tensor) -> Tensor:
    """The mean over channels of degree zero removed."""
    return torch.cat([x[:, :1] - x[:, :1].mean(2, keepdim=True), x[:, 1:]], 1)


#: The weight of each component in a mean that counts every degree once.
BALANCE = of_degree(1 / (2 * torch.arange(L + 1, dtype=torch.float64)[:, None] + 1))[:, 0]


def layer_norm(x: Tensor) -> Tensor:
    """Every degree by its own mean square."""
    square = torch.stack([part.square().mean((1, 2)) for part in x.split([1, 3, 5, 7], 1)])
    return x * (of_degree(square).T[:, :, None] + EPS).rsqrt()


def separable(x: Tensor) -> Tensor:
    """Degree zero by itself, all others by one balanced mean square."""
    rest = (x[:, 1:].square().mean(2) @ BALANCE[1:] / L + EPS).rsqrt()[:, None, None]
    return torch.cat([x[:, :1] * (x[:, :1].square().mean((1, 2), keepdim=True) + EPS).rsqrt(), x[:, 1:] * rest], 1)


def rms(x: Tensor) -> Tensor:
    """All by one balanced mean square."""
    return x * (x.square().mean(2) @ BALANCE / (L + 1) + EPS).rsqrt()[:, None, None]


@pytest.mark.parametrize(
    ("build", "scaled"),
    [(gn.EquivariantLayerNorm, layer_norm), (gn.SeparableLayerNorm, separable), (gn.EquivariantRMSNorm, rms)],
    ids=["layer_norm", "layer_norm_sh", "rms_norm_sh"],
)
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_with_equal_channels_it_is_the_layer_of_equiformer_v2(build, scaled, affine):
    def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        y = scaled(centred(stacked(x)))
        if affine:
            y = y * of_degree(parameters["weight"].view(L + 1, CHANNELS))
            y = torch.cat([y[:, :1] + parameters["bias"], y[:, 1:]], 1)
        return unstacked(y)

    layer = randomize(build(STACK, eps=EPS, affine=affine, dtype=torch.float64))
    assert_irreps_formula(layer, formula, features(STACK))


def by_type(
    x: Tensor, parameters: dict[str, Tensor], types: list[str], pools: list[list[str]], centre: bool = False
) -> Tensor:
    """Types in any order and number: mean over the channels of 0e or of all, and balanced squares of each pool."""
    blocks = list(terms(IRREPS, x))
    together = {
        kind: torch.cat([block for (block, *_), own in zip(blocks, types, strict=True) if own == kind], 1)
        for kind in types
    }
    mean = {kind: v.mean(1, keepdim=True) if centre or kind == "0e" else 0 * v[:, :1] for kind, v in together.items()}
    square = {kind: (v - mean[kind]).square().mean((1, 2)) for kind, v in together.items() if v.shape[1]}
    factor = {}
    for pool in pools:
        value = (torch.stack([square[kind] for kind in pool]).mean(0) + EPS).rsqrt()
        factor |= dict.fromkeys(pool, value)
    parts, biases = [], iter(parameters["bias"])
    for (block, scalar, which), kind in zip(blocks, types, strict=True):
        if not block.shape[1]:
            continue
        y = (block - mean[kind]) * factor[kind][:, None, None] * parameters["weight"][which, None]
        if scalar:
            y = y + torch.stack([next(biases) for _ in range(block.shape[1])])[:, None]
        parts.append(y.flatten(1))
    return torch.cat(parts, 1)


TYPES = ["0e", "1o", "0e", "0o", "1e", "3o", "2e"]
ROTATING = ["1o", "0o", "1e", "2e"]


@pytest.mark.parametrize(
    ("layer", "pools", "centre"),
    [
        (gn.EquivariantLayerNorm(IRREPS), [["0e"], *([kind] for kind in ROTATING)], False),
        (gn.EquivariantLayerNorm(IRREPS, center_vectors=True), [["0e"], *([kind] for kind in ROTATING)], True),
        (gn.SeparableLayerNorm(IRREPS), [["0e"], ROTATING], False),
        (gn.EquivariantRMSNorm(IRREPS), [["0e", *ROTATING]], False),
    ],
    ids=repr,
)
def test_types_may_stand_in_two_places_and_have_any_number_of_channels(layer, pools, centre):
    def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return by_type(x, parameters, TYPES, pools, centre)

    assert_irreps_formula(randomize(layer.double()), formula, features(IRREPS))


@pytest.mark.parametrize("build", [gn.EquivariantLayerNorm, gn.SeparableLayerNorm, gn.EquivariantRMSNorm])
def test_of_scalars_all_three_are_layer_norm_of_a_node(build):
    x = features("6x0e")
    theirs = randomize(nn.LayerNorm(6, dtype=torch.float64))
    for irreps in (6, "6x0e", "2x0e+4x0e"):
        ours = build(irreps, dtype=torch.float64)
        ours.load_state_dict(theirs.state_dict())
        assert_same_to_second_order(ours, theirs, {"x": x})


def lengths(x: Tensor) -> dict[int, Tensor]:
    """The root mean square length of each degree of each node."""
    parts = [block.square().sum(2).mean(1).sqrt() for block, _, _ in terms(STACK, x)]
    return dict(enumerate(parts))


def test_the_relative_size_of_degrees_is_lost_kept_among_those_that_rotate_or_kept_among_all():
    x = centred(stacked(features(STACK)))
    sizes = of_degree(torch.tensor([[1.0], [3.0], [0.2], [5.0]], dtype=torch.float64))
    resized = {1: unstacked(x), 2: unstacked(sizes * x)}
    for build, kept in (
        (gn.EquivariantLayerNorm, []),
        (gn.SeparableLayerNorm, [(1, 2), (2, 3)]),
        (gn.EquivariantRMSNorm, [(0, 1), (1, 2), (2, 3)]),
    ):
        layer = build(STACK, eps=1e-14, dtype=torch.float64)
        before, after = (lengths(layer(value)) for value in resized.values())
        given, changed = (lengths(value) for value in resized.values())
        for low, high in ((0, 1), (1, 2), (2, 3)):
            same_as_before = difference(after[high] / after[low], before[high] / before[low]) < 1e-9
            as_given = difference(after[high] / after[low], changed[high] / changed[low]) < 1e-9
            assert as_given == ((low, high) in kept), (build, low, high)
            assert same_as_before == (not kept), (build, low, high)
            assert difference(before[high] / before[low], given[high] / given[low]) < 1e-9 or (low, high) not in kept


def test_centred_vectors_forget_a_translation_of_raw_coordinates():
    positions = torch.randn(NODES, 1, 3, dtype=torch.float64) + features("4x1o").view(NODES, 4, 3)
    moved = positions + torch.randn(NODES, 1, 3, dtype=torch.float64)
    layer = gn.EquivariantLayerNorm("4x1o", center_vectors=True, dtype=torch.float64)
    assert_equal(layer(moved), layer(positions), tolerance=1e-11)
    plain = gn.EquivariantLayerNorm("4x1o", dtype=torch.float64)
    assert difference(plain(moved), plain(positions)) > 0.1
    assert_equal(layer(positions).mean(1), torch.zeros(NODES, 3))


def test_no_vector_is_turned_round_where_layer_norm_of_lengths_turns_about_half_of_them():
    # Equiformer's first version: x/|x| times LayerNorm of the lengths, which are as often below their mean as above.
    x = torch.randn(500, 8, 3, dtype=torch.float64)
    length = x.norm(dim=2)
    first_version = x / length[..., None] * nn.functional.layer_norm(length, [8])[..., None]
    reversed_share = ((first_version * x).sum(2) < 0).double().mean()
    assert 0.4 < reversed_share < 0.65
    for build in (gn.EquivariantLayerNorm, gn.SeparableLayerNorm, gn.EquivariantRMSNorm, gn.RMSNorm):
        y = build("8x1o", dtype=torch.float64)(x)
        assert_equal(torch.cosine_similarity(y, x, dim=2), torch.ones(500, 8))
    turn = action("8x1o", "node", torch.zeros(500, dtype=torch.long))
    # It is equivariant all the same: what is lost is the sign, not the symmetry.
    turned = turn(x.flatten(1)).view(500, 8, 3)
    again = turned / length[..., None] * nn.functional.layer_norm(length, [8])[..., None]
    assert_equal(again.flatten(1), turn(first_version.flatten(1)))


def test_the_rounding_error_of_vectors_that_cancel_is_amplified_unless_invariants_share_the_divisor():
    # At the centre of a tetrahedron the sum of the four directions is zero but for rounding. A divisor of its own lifts
    # it by 1/√ε = 316, into the forces on a symmetric molecule; beside invariants of size one it stays small.
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    scale = torch.rand(2000, 1, 1) + 0.5
    rotated = torch.einsum("nij,kj->nki", torch.linalg.qr(torch.randn(2000, 3, 3)).Q, corners)
    error = (scale * nn.functional.normalize(rotated, dim=2)).sum(1)
    assert 0 < error.norm(dim=1).mean() < 1e-6
    x = torch.cat([torch.randn(2000, 4), error], 1)
    irreps = "4x0e+1x1o"
    for build, amplified in (
        (gn.EquivariantLayerNorm, True),
        (gn.SeparableLayerNorm, True),
        (gn.EquivariantRMSNorm, False),
        (gn.RMSNorm, False),
    ):
        factor = (build(irreps)(x)[:, 4:].norm(dim=1).mean() / error.norm(dim=1).mean()).item()
        assert factor == pytest.approx(EPS**-0.5, rel=1e-3) if amplified else factor < 10


def test_the_representation_says_whether_vectors_are_centred():
    assert repr(gn.EquivariantLayerNorm("2x0e+1x1o")) == "EquivariantLayerNorm('2x0e+1x1o')"
    assert repr(gn.EquivariantLayerNorm(8, center_vectors=True)) == "EquivariantLayerNorm(8, center_vectors=True)"


def test_every_node_is_normalized_by_itself():
    x = features(IRREPS)
    for build in (gn.EquivariantLayerNorm, gn.SeparableLayerNorm, gn.EquivariantRMSNorm):
        layer = randomize(build(IRREPS, dtype=torch.float64))
        assert_equal(layer(x, BATCH)[3:4], layer(x[3:4]))
