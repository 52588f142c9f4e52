"""Every layer inside the networks of PyTorch Geometric: as an object, by class and by name."""

import inspect
import re
from math import prod

import pytest
import torch
from layers.case import Case
from layers.cases import CASES, some_layers
from layers.peers import assert_equal, ragged_batch
from torch import Tensor, nn
from torch_geometric.nn import GCN
from torch_geometric.nn import norm as pyg
from torch_geometric.nn.resolver import normalization_resolver
from torch_geometric.resolver import resolver

import geonorm as gn
from geonorm.table import AFTER_2022, TABLE1

CHANNELS = 4
CLASSES = [
    value
    for value in vars(gn).values()
    if isinstance(value, type) and issubclass(value, nn.Module) and value is not gn.Standardize
]


def ring_graphs() -> tuple[Tensor, Tensor, Tensor]:
    """Two rings of four and five nodes: features, edges, batch vector."""
    batch = ragged_batch((4, 5))
    ahead = torch.tensor([1, 2, 3, 0, 5, 6, 7, 8, 4])
    edges = torch.stack([torch.arange(9), ahead])
    return torch.randn(9, 3), torch.cat([edges, edges.flip(0)], 1), batch


def network_with(norm: nn.Module, width: int) -> GCN:
    """Two hidden layers of this width, normalized."""
    return GCN(3, width, num_layers=3, out_channels=2, norm=norm)


#: A network hands on one matrix; a layer that returns a pair needs a network that uses it.
in_a_network = some_layers(lambda case: case.takes_batch and case.result is None)


@in_a_network
def test_every_layer_with_a_batch_is_the_norm_of_a_network(case: Case) -> None:
    x, edges, batch = ring_graphs()
    network = network_with(case.make(torch.float32), prod(case.form.shape))
    assert network.supports_norm_batch
    assert [type(norm) for norm in network.norms[:2]] == [type(case.new())] * 2
    together = network(x, edges, batch=batch, batch_size=2)
    together.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)
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
    networks = [network_with(norm, CHANNELS).double() for norm in (ours, theirs)]
    networks[1].load_state_dict(networks[0].state_dict())
    x, edges, batch = ring_graphs()
    results = [network(x.double(), edges, batch=batch, batch_size=2) for network in networks]
    assert_equal(*results)


# By class and by name


def needs(layer: type) -> dict[str, int]:
    """What a layer must be told besides its features."""
    parameters = list(inspect.signature(layer).parameters.values())[1:]
    return {each.name: 2 for each in parameters if each.default is inspect.Parameter.empty}


@in_a_network
def test_the_resolver_builds_a_layer_by_class_and_by_name(case: Case) -> None:
    found = type(case.new())
    assert normalization_resolver(found) is found
    layer = found(case.form.features, **needs(found))
    assert normalization_resolver(layer) is layer
    for name in (found.__name__, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found.__name__).lower()):
        assert type(resolver(CLASSES, {}, name, nn.Module, "Norm", case.form.features, **needs(found))) is found


def test_a_network_takes_no_class_ours_or_its_own() -> None:
    # The resolver gives back what is no string as it is, and a class is no module.
    for classes in (gn.GraphNorm, pyg.GraphNorm):
        with pytest.raises(TypeError, match="not a Module subclass"):
            network_with(classes, CHANNELS)


IN_A_NETWORK = {type(case.new()): case for case in CASES if case.takes_batch and case.result is None}
ROWS = {
    name: row
    for table in (TABLE1, AFTER_2022)
    for name, row in table.items()
    if row.acts_on == "features" and row.layer in IN_A_NETWORK
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_with_a_batch_is_the_norm_of_a_network_by_its_name(name: str) -> None:
    case = IN_A_NETWORK[ROWS[name].layer]
    norm = gn.make(name, case.form.features, **needs(ROWS[name].layer))
    x, edges, batch = ring_graphs()
    y = network_with(norm, prod(case.form.shape))(x, edges, batch=batch, batch_size=2)
    assert y.shape == (9, 2)
    assert y.isfinite().all()


def test_rows_that_are_no_norm_of_a_network_need_more_or_return_more_than_features() -> None:
    rows = {name for table in (TABLE1, AFTER_2022) for name in table}
    weights = {"WeightNorm", "SpectralNorm", "ScaledWeight"}
    further_input = {"MessageNorm", "SchNet", "Allegro / MACE", "PerTypeScaleShift", "DensityNorm", "TypedBatchNorm"}
    assert rows - set(ROWS) == weights | further_input | {"EvNorm", "ScaleFactor"}


def test_the_width_comes_first_in_every_layer_where_the_resolver_of_pyg_puts_it() -> None:
    # PyTorch Geometric gives the width to its own PairNorm as the scale.
    assert GCN(3, 64, 2, norm="PairNorm").norms[0].scale == 64
    for layer in CLASSES:
        assert next(iter(inspect.signature(layer).parameters)) in ("channels", "features", "irreps"), layer
