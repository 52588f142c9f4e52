"""Every layer inside the machinery of its users: the compiler, function transforms, networks of PyTorch Geometric."""

import copy
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from layers.cases import CHANNELS, Case, derivatives, every_layer, some_layers, tracks
from layers.peers import SIZES, assert_equal, ragged_batch
from torch import Tensor, nn
from torch_geometric.nn import GCN
from torch_geometric.nn import norm as pyg

import geonorm as gn

NODES = sum(SIZES)
TESTS = Path(__file__).parents[1]

# The compiler


def test_every_layer_compiles_into_one_graph_and_stays_the_same_function() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "layers.compiled"],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found) > 30
    wrong = {name: value for name, value in found.items() if isinstance(value, str) or not value < 1e-12}
    assert not wrong


# Function transforms


@every_layer
def test_jacobians_of_both_modes_are_those_of_autograd(case: Case) -> None:
    layer, (x, *rest), batch = case.make().eval(), case.inputs(6), torch.tensor([0, 0, 1, 3, 3, 3])

    def function(x: Tensor) -> Tensor:
        return case(layer, x, *rest, batch=batch, batch_size=4)

    expected = torch.autograd.functional.jacobian(function, x)
    assert_equal(torch.func.jacrev(function)(x), expected, "jacrev")
    assert_equal(torch.func.vmap(function)(torch.stack([x, 2 * x]))[1], function(2 * x), "vmap")
    columns = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    tangents = torch.func.vmap(lambda v: torch.func.jvp(function, (x,), (v,))[1])(columns)
    assert_equal(tangents.movedim(0, -1).reshape(expected.shape), expected, "jvp")


@some_layers(tracks)
def test_running_statistics_are_no_part_of_a_pure_function_as_in_torch(case: Case) -> None:
    x = torch.randn(6, CHANNELS)
    for layer in (nn.BatchNorm1d(CHANNELS), case.build(CHANNELS)):
        with pytest.raises(RuntimeError, match="in-place"):
            torch.func.jacrev(layer)(x)


# Networks of PyTorch Geometric


def ring_graphs() -> tuple[Tensor, Tensor, Tensor]:
    """Two rings of four and five nodes: features, edges, batch vector."""
    batch = ragged_batch((4, 5))
    ahead = torch.tensor([1, 2, 3, 0, 5, 6, 7, 8, 4])
    edges = torch.stack([torch.arange(9), ahead])
    return torch.randn(9, 3), torch.cat([edges, edges.flip(0)], 1), batch


@some_layers(lambda case: case.takes_batch)
def test_every_layer_with_a_batch_is_the_norm_of_a_network_of_pyg(case: Case) -> None:
    x, edges, batch = ring_graphs()
    network = GCN(3, CHANNELS, num_layers=3, out_channels=2, norm=case.build(CHANNELS))
    assert network.supports_norm_batch
    assert [type(norm) for norm in network.norms[:2]] == [type(case.build(CHANNELS))] * 2
    together = network(x, edges, batch=batch, batch_size=2)
    together.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    network.reset_parameters()
    if case.per_sample:  # the network hands the batch vector on: each graph is treated as if it were alone
        network.train()
        for sample, inside in ((0, edges[0] < 4), (1, edges[0] >= 4)):
            nodes = batch == sample
            alone = network(x[nodes], edges[:, inside] - 4 * sample)
            assert_equal(network(x, edges, batch=batch, batch_size=2)[nodes], alone, tolerance=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (gn.GraphNorm(CHANNELS), pyg.GraphNorm(CHANNELS)),
        (gn.LayerNorm(CHANNELS), pyg.LayerNorm(CHANNELS)),
        (gn.InstanceNorm(CHANNELS), pyg.InstanceNorm(CHANNELS)),
        (gn.GraphSizeNorm(CHANNELS), pyg.GraphSizeNorm()),
    ],
    ids=lambda layer: repr(layer),
)
def test_a_network_does_not_notice_whose_layer_it_has(ours: nn.Module, theirs: nn.Module) -> None:
    networks = [GCN(3, CHANNELS, 3, norm=norm).double() for norm in (ours, theirs)]
    networks[1].load_state_dict(networks[0].state_dict())
    x, edges, batch = ring_graphs()
    results = [network(x.double(), edges, batch=batch, batch_size=2) for network in networks]
    assert_equal(*results)


def test_pyg_takes_a_layer_or_the_name_of_its_own_and_no_class() -> None:
    # Its resolver gives back what is no string as it is: a class stays a class. `geonorm.make` builds by name.
    for classes in (gn.GraphNorm, pyg.GraphNorm):
        with pytest.raises(TypeError, match="not a Module subclass"):
            GCN(3, CHANNELS, 2, norm=classes)
    network = GCN(3, CHANNELS, 2, norm=gn.make("graph_norm", CHANNELS))
    assert isinstance(network.norms[0], gn.GraphNorm)


def test_the_width_comes_first_in_every_layer_where_the_resolver_of_pyg_puts_it() -> None:
    # PyTorch Geometric gives the width to its own PairNorm as the scale.
    assert GCN(3, 64, 2, norm="PairNorm").norms[0].scale == 64
    for value in vars(gn).values():
        if isinstance(value, type) and issubclass(value, nn.Module) and value is not gn.Standardize:
            assert next(iter(inspect.signature(value).parameters)) == "channels", value


# Other devices


@every_layer
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_device_changes_nothing_but_rounding(case: Case) -> None:
    layer, inputs, batch = case.make().eval(), case.inputs(NODES), ragged_batch(shuffled=True)
    other = copy.deepcopy(layer).cuda()
    expected = derivatives(case, layer, inputs, batch, len(SIZES))
    given = derivatives(case, other, tuple(value.cuda() for value in inputs), batch.cuda(), len(SIZES))
    for name, value in expected.items():
        assert given[name].device.type == "cuda"
        assert_equal(given[name].cpu(), value, name, tolerance=1e-11)
