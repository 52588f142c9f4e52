"""What every layer does to features that rotate: the same to the rotated ones, at its level, with reflections too."""

import copy

import pytest
import torch
from layers.case import Case
from layers.cases import CASES, some_layers, tracks
from layers.forms import IRREPS, orthogonal_matrices
from layers.peers import SIZES, assert_equal, difference, ragged_batch
from torch import Tensor, nn
from untyped import untyped

import geonorm as gn

NODES = sum(SIZES)
every_rotating_layer = some_layers(lambda case: case.form.rotates)


def rotated(
    case: Case, layer: nn.Module, inputs: tuple[Tensor, ...], batch: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """The result for rotated features, and the rotated result."""
    after = case(copy.deepcopy(layer), *case.turn(inputs, g), batch=batch, batch_size=len(SIZES))
    before = case(copy.deepcopy(layer), *inputs, batch=batch, batch_size=len(SIZES))
    return after, case.output.turn(before, g)


def element(case: Case, batch: Tensor, level: str, improper: bool) -> Tensor:
    """An orthogonal matrix for every sample or every node, half of them reflections too where ``improper``."""
    who = batch if level == "sample" else torch.arange(len(batch))
    return orthogonal_matrices(max(len(batch), len(SIZES)), case.form.dim, improper=improper)[who]


@every_rotating_layer
@pytest.mark.parametrize("improper", [False, True], ids=["rotations", "reflections"])
def test_what_rotates_in_rotates_out_at_the_level_of_the_layer_and_no_finer(case: Case, improper: bool) -> None:
    inputs, batch = case.inputs(NODES), ragged_batch(shuffled=True)
    for training in (True, False) if tracks(case) else (True,):
        layer = case.make().train(training)
        for level in ("sample", "node"):
            after, expected = rotated(case, layer, inputs, batch, element(case, batch, level, improper))
            if level == "sample" or case.level == "node":
                assert_equal(after, expected, level)
            else:
                assert difference(after, expected) > 1e-3, "finer rotations are respected too"


@every_rotating_layer
def test_the_inversion_changes_the_signs_of_what_is_odd(case: Case) -> None:
    inputs, batch = case.inputs(NODES), ragged_batch()
    inversion = -torch.eye(case.form.dim, dtype=torch.float64).expand(NODES, -1, -1)
    layer = case.make()
    assert_equal(*rotated(case, layer, inputs, batch, inversion))


@every_rotating_layer
def test_running_statistics_do_not_know_a_direction(case: Case) -> None:
    layer = case.make().train()
    other = copy.deepcopy(layer)
    inputs, batch = case.inputs(NODES), ragged_batch()
    case(layer, *inputs, batch=batch)
    case(other, *case.turn(inputs, element(case, batch, case.level, improper=True)), batch=batch)
    for name, value in layer.state_dict().items():
        assert_equal(other.state_dict()[name], value, name)


@every_rotating_layer
def test_forces_rotate_with_the_features(case: Case) -> None:
    inputs, batch = case.inputs(NODES), ragged_batch()
    weights = torch.linspace(0.5, 2, NODES, dtype=torch.float64)
    for training in (True, False) if tracks(case) else (True,):
        layer = case.make().train(training)
        g = element(case, batch, case.level, improper=True)

        def force(inputs: tuple[Tensor, ...], layer: nn.Module = layer) -> Tensor:
            x = inputs[0].detach().requires_grad_()
            y = case(copy.deepcopy(layer), x, *inputs[1:], batch=batch, batch_size=len(SIZES))
            return torch.autograd.grad((weights * (y.flatten(1).square().sum(1) + 1).log()).sum(), x)[0]

        assert_equal(force(case.turn(inputs, g)), case.form.turn(force(inputs), g))


TAKES_VECTORS = {type(case.new()) for case in CASES if case.form.rotates and not case.weights}


def test_what_takes_no_irreps_refuses_them() -> None:
    layers = {type(case.new()) for case in CASES if not case.weights}
    assert {layer.__name__ for layer in layers - TAKES_VECTORS} == {
        *("BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm", "FilterResponseNorm", "VarianceNorm"),
        *("GraphNorm", "SetNorm", "DiffGroupNorm", "ScaleFactor"),
    }
    with untyped():  # the person who makes the mistake has no check of types
        for layer in layers - TAKES_VECTORS:
            for irreps in ("4x1o", IRREPS.features):
                with pytest.raises((ValueError, TypeError)):
                    layer(irreps, *[2] * (layer in (gn.GroupNorm, gn.DiffGroupNorm)))
