"""Layers that normalize lengths: escnn's, NVIDIA's and ViSNet's, and where these have no derivative or break apart."""

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
    second_order,
    terms,
)
from layers.peers import assert_equal, difference, randomize, refused
from torch import Tensor, nn
from torch_geometric.nn.models.visnet import VecLayerNorm

import geonorm as gn

#: So small that the peers, which have no such constant, are met.
NONE = 1e-30


# FieldNorm


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_field_norm_divides_every_field_by_its_own_rms_and_leaves_the_bias_of_an_invariant(affine: bool):
    layer = randomize(gn.FieldNorm(IRREPS, affine=affine, dtype=torch.float64))

    def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        parts, biases = [], iter(parameters.get("bias", []))
        for block, scalar, which in terms(IRREPS, x):
            y = block * (block.square().mean(2, keepdim=True) + 1e-5).rsqrt() if not scalar else 0 * block
            if affine:
                y = y * parameters["weight"][which, None]
            if affine and scalar:
                y = y + torch.stack([next(biases) for _ in range(block.shape[1])])[:, None]
            parts.append(y.flatten(1))
        return torch.cat(parts, 1)

    assert_irreps_formula(layer, formula, features(IRREPS), BATCH)


def test_of_scalars_nothing_is_left_but_the_bias():
    layer = randomize(gn.FieldNorm(5, dtype=torch.float64))
    assert_equal(layer(features("5x0e")), layer.bias.expand(NODES, 5))


def test_of_a_vector_the_direction_is_left():
    layer = gn.FieldNorm("4x1o", eps=1e-14, dtype=torch.float64)
    x = features("4x1o").view(NODES, 4, 3)
    assert_equal(layer(x), 3**0.5 * nn.functional.normalize(x, dim=2))
    scale = torch.rand(NODES, 4, 1, dtype=torch.float64) + 0.1
    assert_equal(layer(scale * x), layer(x))


def test_what_does_not_change_the_output_has_no_gradient_where_detached_statistics_invent_one():
    # escnn detaches mean and second moment of a field: the output of an invariant is constant and its gradient 1/√ε.
    def detached(x: Tensor, scalar: bool) -> Tensor:
        block = x.unflatten(1, (-1, 1 if scalar else 3))
        left = block - block.detach() if scalar else block
        return (left * (left.square().mean(2, keepdim=True).detach() + 1e-5).rsqrt()).flatten(1)

    def gradient(layer, x: Tensor, along: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return (torch.autograd.grad(layer(x).sum(), x)[0] * along).abs().max()

    invariants, vectors = features("4x0e"), features("4x1o")
    assert_equal(detached(invariants + 1, True), detached(invariants, True))
    slope = torch.tensor(1e-5, dtype=torch.float64).rsqrt()
    assert_equal(gradient(lambda x: detached(x, True), invariants, torch.ones(1)), slope)
    assert gradient(gn.FieldNorm(4, dtype=torch.float64), invariants, torch.ones(1)) == 0
    layer = gn.FieldNorm("4x1o", eps=1e-14, dtype=torch.float64)
    assert_equal(layer(2 * vectors), layer(vectors))

    def radial(layer) -> Tensor:
        x = vectors.clone().requires_grad_()
        first = torch.autograd.grad((layer(x) * torch.cos(vectors)).sum(), x)[0]
        return (first * vectors).unflatten(1, (4, 3)).sum(2).abs().max()

    assert radial(layer) < 1e-10
    assert radial(lambda x: detached(x, False)) > 0.1


# NormSE3


def by_type(x: Tensor, new_length) -> Tensor:
    """A new length for every field of 0e in two places, 1o, 0o, 1e and 2e: all channels of a type together."""
    blocks = [block for block, *_ in terms(IRREPS, x)]
    blocks = [torch.cat([blocks[0], blocks[2]], 1), blocks[1], blocks[3], blocks[4], blocks[6]]
    fields = [[0, 1, 5], [2, 3, 4], [6, 7], [8, 9], [10, 11]]
    parts = []
    for block, which in zip(blocks, fields, strict=True):
        length = block.norm(dim=2)
        parts.append(block / length[..., None] * new_length(length, torch.tensor(which))[..., None])
    first, vectors, pseudo, axial, second = parts
    return torch.cat([part.flatten(1) for part in (first[:, :2], vectors, first[:, 2:], pseudo, axial, second)], 1)


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_norm_se3_is_layer_norm_and_relu_of_the_lengths_of_each_type(affine: bool):
    layer = randomize(gn.NormSE3(IRREPS, vector_eps=NONE, affine=affine, dtype=torch.float64))

    def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        def new_length(length: Tensor, which: Tensor) -> Tensor:
            learned = [parameters[name][which] for name in ("weight", "bias")] if affine else []
            return nn.functional.layer_norm(length, length.shape[1:], *learned).relu()

        return by_type(x, new_length)

    assert_irreps_formula(layer, formula, features(IRREPS), BATCH)


def test_norm_se3_with_equal_channels_is_group_norm_with_a_group_for_each_degree():
    # The released code has this second form for degrees with the same number of channels.
    irreps, x = "4x0e+4x1o+4x2e", features("4x0e+4x1o+4x2e")
    layer = randomize(gn.NormSE3(irreps, vector_eps=NONE, dtype=torch.float64))
    blocks = [block for block, *_ in terms(irreps, x)]
    lengths = torch.cat([block.norm(dim=2) for block in blocks], 1).clamp(min=2**-24)
    new = nn.functional.group_norm(lengths, 3, layer.weight, layer.bias).relu()
    expected = [
        b / o[..., None] * n[..., None] for b, o, n in zip(blocks, lengths.split(4, 1), new.split(4, 1), strict=True)
    ]
    assert_equal(layer(x), torch.cat([part.flatten(1) for part in expected], 1))


def test_norm_se3_shortens_vectors_to_zero_and_turns_none_round():
    x = torch.randn(500, 8, 3, dtype=torch.float64)
    y = gn.NormSE3("8x1o", dtype=torch.float64)(x)
    along = (x * y).sum(2)
    assert (along >= 0).all()
    assert 0.4 < (along == 0).double().mean() < 0.65
    assert_equal(along, x.norm(dim=2) * y.norm(dim=2))


def test_norm_se3_has_derivatives_to_second_order_at_a_zero_vector_where_a_norm_cut_off_below_has_none():
    def released(x: Tensor) -> Tensor:
        block = x.unflatten(1, (4, 3))
        length = block.norm(dim=2).clamp(min=2**-24)
        return (block / length[..., None] * (nn.functional.layer_norm(length, [4]) + 3).relu()[..., None]).flatten(1)

    x = features("4x1o")
    x[1, 3:6] = 0
    ours = gn.NormSE3("4x1o", dtype=torch.float64)
    nn.init.constant_(ours.bias, 3)
    found = second_order(ours, {"x": x})
    assert all(value.isfinite().all() for value in found.values())
    assert found["first derivative by x"].abs().max() < 1e5
    # Just beside zero the released layer has a slope of 2²⁴.
    beside = x.clone()
    beside[1, 3:6] = 1e-9
    assert second_order(released, {"x": beside})["first derivative by x"].abs().max() > 1e6
    assert second_order(ours, {"x": beside})["first derivative by x"].abs().max() < 1e5


# MaxMinNorm


def columns(x: Tensor) -> Tensor:
    """From ViSNet's layout, components times channels of degree one and perhaps two, to e3nn's."""
    return torch.cat([part.transpose(1, 2).flatten(1) for part in x.split([3, 5][: 1 + (x.shape[1] > 3)], 1)], 1)


@pytest.mark.parametrize(("components", "irreps"), [(3, "5x1o"), (8, "5x1o+5x2e")])
def test_max_min_norm_is_the_one_of_visnet(components: int, irreps: str):
    theirs = randomize(VecLayerNorm(5, trainable=True).double())
    ours = gn.MaxMinNorm(irreps, eps=NONE, dtype=torch.float64)
    x = torch.randn(NODES, components, 5, dtype=torch.float64)

    def our_call(x: Tensor, weight: Tensor) -> Tensor:
        # The peer has one gain for a channel of both degrees.
        gain = weight.repeat(1 + (components > 3))
        return torch.func.functional_call(ours, {"weight": gain}, (columns(x),))

    def their_call(x: Tensor, weight: Tensor) -> Tensor:
        return columns(torch.func.functional_call(theirs, {"weight": weight}, (x,)))

    assert_same_to_second_order(our_call, their_call, {"x": x, "weight": theirs.weight})


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_max_min_norm_stretches_the_lengths_of_each_type_over_the_unit_interval(affine: bool):
    layer = randomize(gn.MaxMinNorm(IRREPS, eps=NONE, affine=affine, dtype=torch.float64))

    def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        def new_length(length: Tensor, which: Tensor) -> Tensor:
            low, high = length.amin(1, keepdim=True), length.amax(1, keepdim=True)
            return (length - low) / (high - low) * (parameters["weight"][which] if affine else 1)

        return by_type(x, new_length)

    assert_irreps_formula(layer, formula, features(IRREPS), BATCH)


def test_the_shortest_vector_becomes_zero_and_the_longest_a_unit_vector():
    x = torch.randn(NODES, 6, 3, dtype=torch.float64)
    lengths = gn.MaxMinNorm("6x1o", eps=NONE, dtype=torch.float64)(x).norm(dim=2)
    assert_equal(lengths.amin(1), torch.zeros(NODES))
    assert_equal(lengths.amax(1), torch.ones(NODES))
    assert torch.equal(lengths.argsort(1), x.norm(dim=2).argsort(1))


def test_equal_lengths_become_zero_and_rotate_where_the_peer_stretches_their_rounding_error():
    x = nn.functional.normalize(torch.randn(50, 5, 3, dtype=torch.float64), dim=2)
    turn = action("5x1o", "node", torch.zeros(50, dtype=torch.long))
    turned = turn(x.flatten(1)).view(50, 5, 3)
    ours = gn.MaxMinNorm("5x1o", dtype=torch.float64)
    assert ours(x).abs().max() < 1e-10
    assert_equal(ours(turned).flatten(1), turn(ours(x).flatten(1)), tolerance=1e-10)
    theirs = VecLayerNorm(5, trainable=False).double()

    def peer(x: Tensor) -> Tensor:
        return theirs(x.transpose(1, 2)).transpose(1, 2)

    assert peer(x).norm(dim=2).max() > 0.5
    assert difference(peer(turned).flatten(1), turn(peer(x).flatten(1))) > 0.5


def test_a_zero_vector_has_second_derivatives_where_the_peer_has_nan():
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    x[1, 2] = 0
    ours, theirs = gn.MaxMinNorm("5x1o", dtype=torch.float64), VecLayerNorm(5, trainable=False).double()
    given = second_order(ours, {"x": x})
    assert all(value.isfinite().all() for value in given.values())
    expected = second_order(lambda x: theirs(x.transpose(1, 2)), {"x": x})
    assert expected["second derivative by x"].isnan().any()


def test_a_node_whose_vectors_are_all_zero_or_all_equal_has_derivatives_to_second_order():
    x = torch.cat([torch.zeros(1, 15), torch.ones(1, 15), features("5x1o", 1)]).double()
    for layer in (gn.MaxMinNorm("5x1o"), gn.NormSE3("5x1o"), gn.FieldNorm("5x1o")):
        found = second_order(layer.double(), {"x": x})
        assert all(value.isfinite().all() for value in found.values()), layer


def test_a_channel_alone_is_both_shortest_and_longest_and_becomes_zero_or_its_bias():
    x = features("1x1o+1x2e")
    assert gn.MaxMinNorm("1x1o+1x2e", dtype=torch.float64)(x).abs().max() == 0
    layer = gn.NormSE3("1x1o+1x2e", vector_eps=NONE, dtype=torch.float64)
    assert layer(x).abs().max() == 0
    nn.init.constant_(layer.bias, 0.25)
    for block, *_ in terms("1x1o+1x2e", layer(x)):
        assert_equal(block.norm(dim=2), torch.full((NODES, 1), 0.25))


# What they refuse


def test_constants_that_leave_a_zero_vector_without_direction_are_refused():
    with refused("eps is 0.0, expected a number > 0: it keeps the direction of a zero vector defined"):
        gn.MaxMinNorm("2x1o", eps=0.0)
    with refused("eps is 0.0, expected a number > 0"):
        gn.NormSE3("2x1o", vector_eps=0.0)
    with refused("eps is -1e-05, expected a number >= 0: it is added to a variance"):
        gn.NormSE3("2x1o", eps=-1e-5)


def test_the_representation_is_short():
    assert repr(gn.FieldNorm("2x0e+1x1o")) == "FieldNorm('2x0e+1x1o')"
    assert repr(gn.NormSE3(8)) == "NormSE3(8)"
    assert repr(gn.MaxMinNorm("2x0e+1x1o")) == "MaxMinNorm('2x0e+1x1o')"
