"""Whole networks: what they break, and which submodule is to blame."""

import pytest
import torch
from match.networks import Before, Neighbors, Network, OnData, WithForces, as_data, molecules
from torch import Tensor, nn
from torch_geometric.nn import SchNet

import geonorm as gn
from geonorm.match.graphs import Graphs
from geonorm.match.network import check_network
from geonorm.match.tasks import FORCES, POINT_CLOUD_CLASS, Task


@pytest.mark.parametrize(
    "norm", [nn.Identity(), gn.LayerNorm(16, mode="node"), gn.AverageNeighborNorm(16, 4.0)], ids=repr
)
def test_a_network_of_matched_parts_is_a_match(norm: nn.Module) -> None:
    report = check_network(Network(norm), molecules())
    assert report.matched, str(report)
    assert not report.couples
    assert set(report.errors["training"]) >= {"rotation", "inversion", "translation", "node permutation"}
    assert str(report).startswith("Network is a geometric match for the task 'energy'")


def test_batch_norm_couples_molecules_in_training_only_and_is_named() -> None:
    report = check_network(Network(gn.BatchNorm(16)), molecules())
    assert set(report.broken) == {"sample independence"}
    assert report.couples
    assert report.blame == {"sample independence": "norm"}
    assert report.errors["evaluation"]["sample independence"] == 0
    assert "first in norm" in str(report)


def test_a_tester_of_rotations_alone_sees_nothing() -> None:
    rotations = Task("rotations", respects=["rotation", "inversion"])
    assert check_network(Network(gn.BatchNorm(16)), molecules(), rotations).matched


def test_forces_turn_with_the_molecule_and_feel_its_batch_mates() -> None:
    assert check_network(WithForces(Network(nn.Identity())), molecules(), FORCES).matched
    report = check_network(WithForces(Network(gn.BatchNorm(16))), molecules(), FORCES)
    assert set(report.broken) == {"sample independence"}
    assert report.blame["sample independence"] == "network.norm"


@pytest.mark.parametrize(
    ("layer", "broken"),
    [
        (nn.LayerNorm(3), {"rotation", "inversion", "translation"}),
        (nn.BatchNorm1d(3), {"rotation", "inversion", "translation", "sample independence"}),
    ],
    ids=["LayerNorm", "BatchNorm"],
)
def test_a_layer_on_raw_coordinates_is_found_wherever_it_stands(layer: nn.Module, broken: set[str]) -> None:
    report = check_network(Before(layer, Network(nn.Identity())), molecules())
    assert set(report.broken) == broken
    assert report.blame == dict.fromkeys(broken, "layer")


def test_what_a_network_does_itself_is_not_blamed_on_the_submodule_that_comes_next() -> None:
    class Stretched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network(nn.Identity())

        def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
            return self.network(z, pos * pos.std(), batch)

    report = check_network(Stretched(), molecules())
    assert set(report.broken) >= {"rotation", "sample independence"}
    assert report.blame == dict.fromkeys(report.broken, "the network itself")


def test_a_network_that_forgets_the_size_of_a_molecule_is_no_match_for_an_energy() -> None:
    class Sized(nn.Module):
        def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
            centred = gn.PairNorm(3)(pos, batch)
            lengths = (centred.square().sum(1, keepdim=True) + z[:, None]).sqrt()
            return pos.new_zeros(2, 1).index_add(0, batch, lengths)

    report = check_network(Sized(), molecules())
    assert not report.broken
    assert report.added == ("scale per sample of coordinates",)
    assert check_network(Sized(), molecules(), POINT_CLOUD_CLASS).matched


def test_rows_in_an_order_of_their_own_are_found() -> None:
    class Ordered(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return h * torch.arange(1, len(h) + 1, dtype=h.dtype)[:, None]

    report = check_network(Network(Ordered()), molecules())
    assert set(report.broken) >= {"node permutation"}
    assert report.blame["node permutation"] == "norm"


@pytest.mark.parametrize("norm", [nn.Identity(), gn.BatchNorm(16)], ids=repr)
def test_a_batch_of_torch_geometric_is_read(norm: nn.Module) -> None:
    report = check_network(OnData(Network(norm)), as_data())
    assert report.matched == isinstance(norm, nn.Identity)
    assert report.blame in ({}, {"sample independence": "network.norm"})


def test_a_published_network_is_a_match() -> None:
    network = SchNet(hidden_channels=16, num_filters=16, num_interactions=2, interaction_graph=Neighbors())
    assert check_network(network, molecules()).matched


def test_a_network_that_returns_nan_is_degenerate() -> None:
    class Nan(nn.Module):
        def forward(self, pos: Tensor, batch: Tensor) -> Tensor:
            return pos.new_full((2, 1), float("nan"))

    report = check_network(Nan(), molecules())
    assert not report.matched
    assert "NaN" in report.degenerate["training"]
    assert "degenerate" in report.broken


def test_the_network_and_its_buffers_stay_as_they_are() -> None:
    network = Network(gn.BatchNorm(16)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_network(network, molecules())
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert value.dtype == before[name].dtype


def test_kinds_are_told_from_names_and_shapes_or_given() -> None:
    given = molecules() | {"edge_index": torch.tensor([[0, 1], [1, 0]]), "w": torch.randn(2), "v": torch.randn(9, 6)}
    graphs = Graphs.read(given, {"v": "2x1o"})
    expected = {"z": "nodes", "pos": "coordinates", "batch": "batch", "edge_index": "edge index", "v": "2x1o"}
    assert {name: graphs.kinds[name] for name in expected} == expected
    permuted, order = graphs.permuted()
    old = {(int(a), int(b)) for a, b in given["edge_index"].T}
    assert {(int(order[a]), int(order[b])) for a, b in permuted.edges.T} == old


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([1, 2], TypeError, "data is a list, expected a mapping of tensors by name or a torch_geometric Data"),
        ({"pos": torch.randn(5, 3)}, ValueError, "the batch holds one sample, expected two or more"),
        ({"w": torch.randn(2, 2)}, ValueError, "none of which says how many nodes there are"),
    ],
)
def test_data_that_cannot_be_read_is_refused(data, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        check_network(Network(nn.Identity()), data)
