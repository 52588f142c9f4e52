"""What holds for every layer as a module: how it is shown, kept, copied and moved, and which mistakes it refuses."""

import copy
import pickle
import re
from math import prod

import pytest
import torch
from layers.case import Case, nothing
from layers.cases import CASES, every_feature_layer, every_layer, every_sample_layer, some_layers
from layers.peers import SIZES, assert_equal, assert_same, ragged_batch, refused
from torch import nn

import geonorm as gn

NODES = sum(SIZES)


@every_feature_layer
def test_the_representation_says_what_was_asked_for(case: Case) -> None:
    expected = case.representation.replace("…", repr(case.form.features))
    assert repr(case.new()) == expected
    assert str(nn.Sequential(case.new())) == f"Sequential(\n  (0): {expected}\n)"


@every_layer
def test_a_copy_of_a_trained_layer_is_a_layer_of_its_own(case: Case) -> None:
    layer, (x, *rest) = case.make(), case.inputs(NODES)
    case(layer, x.requires_grad_(), *rest).square().sum().backward()
    other = copy.deepcopy(layer)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    for value in other.state_dict().values():
        value.add_(1)
    assert_same(layer.state_dict(), before)


@every_layer
def test_the_state_dict_carries_all_that_a_layer_has_learned_and_seen(case: Case) -> None:
    layer, inputs = case.make().eval(), case.inputs(NODES)
    fresh = case.new(dtype=torch.float64).eval()
    fresh.load_state_dict(layer.state_dict())
    assert_equal(case(fresh, *inputs), case(layer, *inputs))
    for name, value in layer.state_dict().items():
        assert value.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float64), name


@every_feature_layer
def test_a_pickled_layer_comes_back(case: Case) -> None:
    layer, inputs = case.make().eval(), case.inputs(NODES)
    assert_equal(case(pickle.loads(pickle.dumps(layer)), *inputs), case(layer, *inputs))


@some_layers(lambda case: case.weights)
def test_torch_keeps_modules_with_normalized_weights_by_their_state_dict_only(case: Case) -> None:
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(case.make())


@every_layer
def test_device_and_dtype_may_be_asked_for_and_changed(case: Case) -> None:
    asked = case.new(device="meta", dtype=torch.bfloat16)
    moved = case.new().to(device="meta", dtype=torch.bfloat16)
    for layer in (asked, moved):
        for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
            assert value.device.type == "meta", name
            assert value.dtype in (torch.bfloat16, torch.int64, torch.bool), name
        repr(layer)
    assert [n for n, _ in asked.named_parameters()] == [n for n, _ in moved.named_parameters()]


@every_layer
def test_a_layer_that_changes_its_dtype_is_the_layer_made_with_that_dtype(case: Case) -> None:
    made = case.make().eval()
    moved = case.new(dtype=torch.float32)
    moved = moved.to(torch.float64).eval()
    moved.load_state_dict(made.state_dict())
    inputs = case.inputs(NODES)
    assert_equal(case(moved, *inputs), case(made, *inputs))


@every_feature_layer
def test_reset_gives_back_a_new_layer(case: Case) -> None:
    torch.manual_seed(1)
    fresh = case.new(dtype=torch.float64)
    layer = case.make()
    torch.manual_seed(1)
    layer.reset_parameters()
    torch.testing.assert_close(layer.state_dict(), fresh.state_dict(), rtol=0, atol=0, equal_nan=True)


@some_layers(lambda case: case.extra is nothing and case.result is None)
def test_layers_stand_in_a_sequence_of_modules(case: Case) -> None:
    layer, x = case.make(torch.float32), case.form.draw(NODES, torch.float32)
    network = nn.Sequential(nn.Linear(x.shape[-1], x.shape[-1]), layer, nn.SiLU())
    network(x).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_every_public_layer_is_in_the_table_of_this_test() -> None:
    layers = {value for value in vars(gn).values() if isinstance(value, type) and issubclass(value, nn.Module)}
    functions = {gn.weight_norm, gn.spectral_norm, gn.scaled_weight_standardization}
    built = {type(case.new()) for case in CASES if not case.weights}
    assert layers - built == {gn.Standardize}, "Standardize has tests of its own"
    assert {case.representation for case in CASES if case.weights} == {function.__name__ for function in functions}


# Mistakes


def expected_shape(case: Case) -> str:
    """The shape of the features, as a regular expression."""
    return re.escape(", ".join(map(str, case.form.shape)))


@some_layers(lambda case: not case.weights and case.split is None)
def test_features_of_another_width_or_type_are_refused(case: Case) -> None:
    layer = case.new()
    x, *rest = case.inputs(NODES, dtype=torch.float32)
    narrow = x[..., :-1]
    shape = re.escape(str(list(narrow.shape)))
    with refused(
        rf"[xy] has shape {shape}.*expected .*\[(nodes|rows), ({expected_shape(case)}|{prod(case.form.shape)})\]"
    ):
        layer(narrow, *rest)
    with refused(r"[xy] has dtype torch.int64, expected a floating-point type: convert it with [xy].float\(\)"):
        layer(x.long(), *rest)


@some_layers(lambda case: case.takes_batch and case.split is None)
def test_a_batch_that_does_not_fit_is_refused(case: Case) -> None:
    layer, (x,), batch = case.new(), case.inputs(NODES, dtype=torch.float32), ragged_batch()
    shape, columns = expected_shape(case), prod(case.form.shape)
    with refused(rf"x has shape \[{shape}\], expected \[nodes, {shape}\].* a dense batch \[samples, nodes, "):
        layer(x[0])
    with refused(r"batch has shape \[12\], expected \[13\]: one sample number for each row of x"):
        layer(x, batch[:-1])
    with refused(r"batch has shape \[13, 1\], expected \[13\]"):
        layer(x, batch[:, None])
    with refused(r"batch has dtype torch.float32, expected torch.int64: convert it with batch.long\(\)"):
        layer(x, batch.float())
    with refused(rf"x has shape \[1, 13, ({shape}|{columns})\], a dense batch, and a batch vector was given too"):
        layer(x[None], batch)


@every_sample_layer
def test_a_wrong_number_of_samples_is_refused(case: Case) -> None:
    layer, (x,), batch = case.new().train(), case.inputs(NODES, dtype=torch.float32), ragged_batch()
    with refused("batch_size is 4 but batch numbers samples up to 4: pass the number of samples, or leave"):
        layer(x, batch, 4)
    with refused("batch_size is 5 but no batch vector says which node belongs to which sample: pass batch"):
        layer(x, None, 5)
    with refused("batch holds the sample number -1, expected numbers from 0"):
        layer(x, batch - 1)
