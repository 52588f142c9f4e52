"""Whole networks: what they break, and which submodule is to blame."""

import math

import pytest
import torch
from match.networks import (
    Before,
    Neighbors,
    Network,
    OnData,
    OnElements,
    OnPairs,
    WithForces,
    as_data,
    molecules,
    rings,
)
from torch import Tensor, nn
from torch_geometric.nn import SchNet

import geonorm as gn
from geonorm.data import load_uracil
from geonorm.match.graphs import Graphs
from geonorm.match.network import check_network
from geonorm.match.tasks import FORCES, POINT_CLOUD_CLASS, SET_REGRESSION, Task
from geonorm.models.allegro import Allegro, Statistics, collate


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


APART = Task("of each graph by itself", respects=["sample independence"])


def on_elements(**changed: Tensor) -> dict[str, Tensor]:
    return {name: value for name, value in rings().items() if name != "pos"} | changed


@pytest.mark.parametrize("one_element", [False, True])
def test_samples_are_told_apart_by_elements_and_bonds_alone(one_element: bool) -> None:
    given = on_elements()
    if one_element:  # nothing but the number of bonds and atoms is left to feel
        given |= {"z": torch.full((9,), 6), "edge_index": given["edge_index"][:, :-2]}
    report = check_network(OnElements(nn.BatchNorm1d(8)), given, APART)
    assert set(report.broken) == {"sample independence"}
    assert report.blame == {"sample independence": "norm"}
    assert not report.untried
    assert check_network(OnElements(nn.LayerNorm(8)), given, APART).matched


def test_a_network_that_refuses_other_numbers_of_samples_is_tried_on_other_elements() -> None:
    class Picky(OnElements):
        def forward(self, z: Tensor, batch: Tensor, edge_index: Tensor) -> Tensor:
            if int(batch.max()) != 1:
                raise ValueError("two samples, please")
            return super().forward(z, batch, edge_index)

    report = check_network(Picky(nn.BatchNorm1d(8)), on_elements(), APART)
    assert report.blame == {"sample independence": "norm"}
    report = check_network(Picky(nn.LayerNorm(8)), on_elements(), APART)
    assert report.matched
    assert report.untried == ("leaving a sample out, or taking it twice: ValueError: two samples, please",)
    assert "not tried   leaving a sample out" in str(report)


def test_features_of_edges_and_samples_are_changed_too() -> None:
    class OfBonds(nn.Module):
        def forward(self, bonds: Tensor, charge: Tensor, batch: Tensor, edge_index: Tensor) -> Tensor:
            if len(charge) != 2:
                raise ValueError("two samples, please")
            sums = charge.new_zeros(2, 1).index_add(0, batch[edge_index[0]], bonds)
            return sums + (bonds.mean() if of == "bonds" else charge.mean())

    given = on_elements(bonds=torch.rand(8, 1), charge=torch.rand(2, 1))
    given["edge_index"] = given["edge_index"][:, :-1]
    for of in ("bonds", "charge"):
        assert set(check_network(OfBonds(), given, APART).broken) == {"sample independence"}, of


def test_a_batch_of_other_samples_holds_what_belongs_to_them() -> None:
    generator = torch.Generator().manual_seed(0)
    given = (
        molecules()
        | rings()
        | {"bond": torch.arange(8), "charge": torch.tensor([5, 7]), "ptr": torch.tensor([0, 4, 9])}
    )
    given["edge_index"] = given["edge_index"][:, torch.randperm(9, generator=generator)[:8]]
    given["cell"] = torch.randn(2, 3, 3, generator=generator)
    graphs = Graphs.read(given)
    swapped = graphs.of_samples([1, 0, 1])
    assert torch.equal(swapped.entries["z"], torch.cat([given["z"][4:], given["z"][:4], given["z"][4:]]))
    assert swapped.batch.tolist() == [0] * 5 + [1] * 4 + [2] * 5
    assert swapped.entries["ptr"].tolist() == [0, 5, 9, 14]
    assert swapped.entries["charge"].tolist() == [7, 5, 7]
    assert torch.equal(swapped.entries["cell"], given["cell"][[1, 0, 1]])
    old = torch.cat([torch.arange(4, 9), torch.arange(4), torch.arange(4, 9)])
    assert torch.equal(old[swapped.edges], given["edge_index"][:, swapped.entries["bond"]])
    assert torch.equal(swapped.batch[swapped.edges[0]], swapped.batch[swapped.edges[1]])


def test_rows_of_equal_number_are_told_apart_by_other_samples() -> None:
    given = rings()
    given["edge_index"] = torch.cat([given["edge_index"][:, 1:], torch.tensor([[4], [6]])], 1)  # three pairs, and six
    report = check_network(OnPairs(nn.Identity()), given)
    assert report.matched, str(report)
    report = check_network(OnPairs(nn.BatchNorm1d(8)), given)
    assert set(report.broken) == {"sample independence"}
    assert report.blame == {"sample independence": "norm"}


def test_where_no_batch_tells_what_rows_are_it_is_asked_for() -> None:
    network = OnPairs(nn.Identity())
    with pytest.raises(ValueError, match=r"9 rows, and there are as many nodes as edges: .*{'output': 'edges'}"):
        check_network(network, rings())
    assert check_network(network, rings(), outputs={"output": "edges"}).matched
    assert set(check_network(network, rings(), outputs={"output": "nodes"}).broken) == {"node permutation"}


def test_vectors_of_pairs_turn_with_their_sample() -> None:
    class Arrows(nn.Module):
        def forward(self, pos: Tensor, batch: Tensor, edge_index: Tensor) -> Tensor:
            return pos[edge_index[1]] - pos[edge_index[0]]

    given = {name: value for name, value in rings().items() if name != "z"}
    assert check_network(Arrows(), given, FORCES, outputs={"output": "edges 1o"}).matched
    given["edge_index"] = given["edge_index"][:, :-2]
    assert check_network(Arrows(), given, FORCES, outputs={"output": "1o"}).matched
    assert set(check_network(Arrows(), given, FORCES).broken) == {"rotation", "inversion"}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"energy": "samples"}, r"outputs name \['energy'\], but the network returned \['output'\]"),
        ({"output": "edges"}, r"for each of the edges, but its shape is \[2, 1\] and there are no edges"),
        ({"output": "nodes"}, r"for each of the nodes, but its shape is \[2, 1\] and there are 9 nodes"),
    ],
)
def test_what_is_said_of_outputs_must_fit(outputs: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_network(Network(nn.Identity()), molecules(), outputs=outputs)


class Behind(nn.Module):
    """A network, and the coordinates behind a gate that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.gate = Network(nn.Identity()), nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        away = pos.new_zeros(2, 1).index_add(0, batch, pos[:, :1] ** 2)
        return self.network(z, pos, batch) + self.gate * away


def test_what_hides_behind_a_closed_gate_is_found() -> None:
    report = check_network(Behind(), molecules())
    assert set(report.broken) == {"rotation", "inversion", "translation"}
    assert report.only(updates=False).matched
    assert not report.only(updates=True).matched
    assert "rotation: relative error" in str(report)
    assert "(training after updates, evaluation after updates)" in str(report)


def test_what_a_closed_gate_does_not_see_yet_is_not_lost() -> None:
    class Shut(Behind):
        def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
            lengths = (pos - pos[[0] * 4 + [4] * 5]).norm(dim=1, keepdim=True)
            return self.gate * pos.new_zeros(2, 1).index_add(0, batch, lengths) + z.sum()

    report = check_network(Shut(), molecules(), Task("sizes", respects=["rotation"]))
    assert report.matched, str(report)


def test_running_statistics_that_break_a_symmetry_once_they_have_moved_are_found() -> None:
    class Centre(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, pos: Tensor) -> Tensor:
            if self.training:
                self.mean += 0.1 * (pos.mean(0) - self.mean)
                return pos
            return pos * (pos - self.mean).square().sum(1, keepdim=True)

    rotations = Task("rotations", respects=["rotation"])
    report = check_network(Before(Centre(), Network(nn.Identity())), molecules(), rotations)
    broken = {mode for mode, errors in report.errors.items() if errors["rotation"] > 1e-10}
    assert broken == {"evaluation after updates"}
    assert report.blame == {"rotation": "layer"}


def test_a_scale_that_only_epsilon_keeps_is_lost() -> None:
    class Sized(nn.Module):
        def __init__(self, offset: float, norm: nn.Module | None) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(3, 8), norm, nn.Linear(8, 1)
            self.offset = offset
            nn.init.zeros_(self.first.bias).requires_grad_(False)

        def forward(self, pos: Tensor, batch: Tensor) -> Tensor:
            h = self.first(pos)
            h = h if self.norm is None else self.norm(h, batch)
            return pos.new_zeros(2, 1).index_add(0, batch, self.last(h.relu())) + self.offset

    given = {name: value for name, value in molecules().items() if name != "z"}
    for offset in (0.0, -1e4):  # what is lost does not depend on a constant in the output
        report = check_network(Sized(offset, gn.SetNorm(8, eps=1e-5)), given, SET_REGRESSION)
        assert report.added == ("scale per sample of coordinates",), offset
        assert check_network(Sized(offset, None), given, SET_REGRESSION).matched, offset


class Single(nn.Module):
    """A network that casts its inputs to a type of its own."""

    def __init__(self, network: nn.Module, remembers: bool) -> None:
        super().__init__()
        self.network, self.first = network, nn.Linear(3, 3, bias=False).requires_grad_(False)
        nn.init.eye_(self.first.weight)
        if remembers:
            self.dtype = torch.float32

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        return self.network(z, self.first(pos.to(getattr(self, "dtype", torch.float32))), batch)


def test_a_network_that_remembers_its_type_is_measured_in_float64() -> None:
    network = Single(Network(nn.Identity()), remembers=True)
    report = check_network(network, molecules())
    assert report.matched
    assert report.errors["training"]["rotation"] < 1e-14
    assert network.dtype == torch.float32


def test_a_network_that_insists_on_float32_says_so_and_is_measured_in_it() -> None:
    with pytest.raises(
        TypeError, match=r"Single runs in float32, but its copy in float64 does not.*dtype=torch.float32"
    ):
        check_network(Single(Network(nn.Identity()), remembers=False), molecules())
    report = check_network(Single(Network(nn.Identity()), remembers=False), molecules(), dtype=torch.float32)
    assert report.matched, str(report)
    assert 1e-9 < max(report.errors["training"].values()) < 1e-5
    report = check_network(Single(Network(gn.BatchNorm(16)), remembers=False), molecules(), dtype=torch.float32)
    assert set(report.broken) == {"sample independence"}
    assert report.blame["sample independence"] == "network.norm"
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(ValueError, match=r"dtype is torch.float16, expected torch.float64 or torch.float32"):
        check_network(Network(nn.Identity()), molecules(), dtype=torch.float16)


def test_zeros_that_a_network_draws_up_itself_have_the_type_of_the_measurement() -> None:
    class OwnZeros(Network):
        def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
            return torch.zeros(2, 1).index_add(0, batch, super().forward(z, pos, batch)[batch])

    assert check_network(OwnZeros(nn.Identity()), molecules()).matched


def test_an_output_that_is_nan_only_where_a_sample_is_rotated_is_no_match() -> None:
    class Root(nn.Module):
        def forward(self, pos: Tensor, batch: Tensor) -> Tensor:
            return pos.new_zeros(2).index_add(0, batch, (pos[:, 0] - lowest + 0.1).sqrt())

    given = {name: value for name, value in molecules().items() if name != "z"}
    given["pos"] = given["pos"] * torch.tensor([1.0, 9.0, 9.0])
    lowest = given["pos"][:, 0].min()
    report = check_network(Root(), given)
    assert math.isnan(report.broken["rotation"])
    assert not report.matched


def test_one_hook_serves_all_submodules() -> None:
    class Watched(Network):
        def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
            for module in self.modules():
                hooks.update(getattr(hook, "func", hook) for hook in module._forward_hooks.values())
            return super().forward(z, pos, batch)

    # A type checker rewrites every function that it meets: one for each submodule made audits several times slower.
    hooks: set = set()
    check_network(Watched(nn.Identity()), molecules())
    assert len(hooks) == 1
    assert not hooks.pop().__annotations__


def test_allegro_of_float32_is_measured_in_float64() -> None:
    pytest.importorskip("allegro")
    frames, _ = load_uracil().split(train=2, test=2)
    network = Allegro(frames.z, Statistics.of(frames), l_max=1, num_layers=1, num_scalars=8, num_tensors=2)
    report = check_network(network, collate(network.graphs(frames)), FORCES, outputs={"output 1": "1o"})
    assert report.matched, str(report)
    assert max(report.errors["training after updates"].values()) < 1e-12
