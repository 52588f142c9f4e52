"""MessageNorm: equal to PyTorch Geometric, and defined where that is not."""

import pytest
import torch
from layers.peers import Peer, assert_equal, assert_same_function, features, randomize, refused
from torch import Tensor
from torch_geometric.nn import norm as pyg

import geonorm as gn
from geonorm.layers.fields import Vectors

CHANNELS, NODES = 6, 9


@pytest.mark.parametrize("learn_scale", [True, False])
def test_message_norm_is_the_one_of_pyg(learn_scale: bool) -> None:
    ours, theirs = gn.MessageNorm(CHANNELS, learn_scale), pyg.MessageNorm(learn_scale)
    peer = Peer(ours, theirs)
    x, message = features(NODES, CHANNELS), features(NODES, CHANNELS)
    peer.check(x, message)
    assert_same_function(ours, theirs, {"x": x, "message": message})
    assert ours.scale.requires_grad is learn_scale


def test_a_message_shorter_than_the_least_norm_is_divided_by_the_least_norm() -> None:
    x, message = features(NODES, CHANNELS), 1e-14 * features(NODES, CHANNELS)
    ours, theirs = gn.MessageNorm(CHANNELS), pyg.MessageNorm()
    assert_equal(ours(x, message), x.norm(dim=1, keepdim=True) * message / 1e-12)
    assert_same_function(ours, theirs, {"x": x, "message": message})


def test_the_result_has_the_length_of_the_features_and_the_direction_of_the_message() -> None:
    x, message = features(NODES, CHANNELS), features(NODES, CHANNELS)
    y = gn.MessageNorm(CHANNELS)(x, message)
    assert_equal(y.norm(dim=1), x.norm(dim=1))
    assert_equal(torch.cosine_similarity(y, message), torch.ones(NODES))


def test_the_length_of_the_message_and_with_it_the_number_of_neighbours_is_erased() -> None:
    x, message, layer = features(NODES, CHANNELS), features(NODES, CHANNELS), gn.MessageNorm(CHANNELS)
    number_of_neighbours = torch.randint(1, 9, (NODES, 1))
    assert_equal(layer(x, number_of_neighbours * message), layer(x, message))


def derivatives(layer: torch.nn.Module, x: Tensor, message: Tensor) -> tuple[Tensor, ...]:
    """Output, gradients and gradients of the squared gradients."""
    inputs = [x.clone().requires_grad_(), message.clone().requires_grad_()]
    y = layer(*inputs)
    first = torch.autograd.grad(y.sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
    return y, *first, *second


@pytest.mark.parametrize("zero", ["x", "message", "both"])
def test_all_is_finite_to_second_order_at_zero_where_pyg_has_nan(zero: str) -> None:
    x, message = features(NODES, CHANNELS), features(NODES, CHANNELS)
    if zero != "message":
        x[2] = 0
    if zero != "x":
        message[2] = 0
    y, *rest = derivatives(gn.MessageNorm(CHANNELS, learn_scale=True).double(), x, message)
    assert all(value.isfinite().all() for value in rest)
    assert_equal(y[2], torch.zeros(CHANNELS))
    assert any(value.isnan().any() for value in derivatives(pyg.MessageNorm(), x, message))


def test_very_short_and_very_long_messages_keep_their_direction_in_float32() -> None:
    x, message = features(NODES, CHANNELS, torch.float32), features(NODES, CHANNELS, torch.float32)
    layer = gn.MessageNorm(CHANNELS)
    expected = layer(x, message)
    for scale in (1e-10, 1e10, 1e30):
        assert_equal(layer(x, scale * message), expected, f"message × {scale}", tolerance=1e-6)
        assert_equal(layer(scale * x, message) / scale, expected, f"features × {scale}", tolerance=1e-6)


def test_reset_gives_back_the_scale_of_one() -> None:
    layer = randomize(gn.MessageNorm(CHANNELS, learn_scale=True))
    layer.reset_parameters()
    assert layer.scale.tolist() == [1.0]


def test_shapes_that_do_not_fit_are_refused() -> None:
    layer = gn.MessageNorm(CHANNELS)
    with refused(r"x has shape \[9, 6\] and message \[8, 6\], expected both \[nodes, 6\]: pass the messages after"):
        layer(torch.randn(9, 6), torch.randn(8, 6))
    with refused(r"x has shape \[9, 5\] and message \[9, 5\], expected both \[nodes, 6\]"):
        layer(torch.randn(9, 5), torch.randn(9, 5))
    with refused(r"message has dtype torch.int64, expected a floating-point type: convert it with message.float\(\)"):
        layer(torch.randn(9, 6), torch.ones(9, 6, dtype=torch.long))


def test_of_irreps_and_vectors_it_is_the_layer_on_their_columns_and_every_node_may_be_rotated_by_itself() -> None:
    x, message = features(NODES, 12), features(NODES, 12)
    expected = gn.MessageNorm(12)(x, message)
    assert_equal(gn.MessageNorm("3x0e+3x1o")(x, message), expected)
    for layer in (gn.MessageNorm(Vectors(4)), gn.MessageNorm("4x1o")):
        assert_equal(layer(x, message), expected)
        split = [value.view(NODES, 4, 3) for value in (x, message)]
        assert_equal(layer(*split), expected.view(NODES, 4, 3))
        turn = torch.linalg.qr(torch.randn(NODES, 3, 3, dtype=torch.float64)).Q
        turned = [torch.einsum("nij,ncj->nci", turn, value) for value in split]
        assert_equal(layer(*turned), torch.einsum("nij,ncj->nci", turn, layer(*split)))
    assert repr(gn.MessageNorm("3x0e+3x1o")) == "MessageNorm('3x0e+3x1o', learn_scale=False)"
    with refused(r"x has shape \[9, 3, 4\] and message \[9, 3, 4\], expected both \[nodes, 12\] or \[nodes, 4, 3\]: "):
        layer(torch.randn(9, 3, 4), torch.randn(9, 3, 4))
