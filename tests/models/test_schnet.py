import copy

import pytest
import torch
from models.small_molecules import SIZES, molecules
from torch import Tensor, nn

import geonorm as gn
from geonorm.match import random_rotations
from geonorm.models.schnet import NORMALIZATIONS, SchNet

SMALL = {"channels": 8, "num_interactions": 2, "num_gaussians": 12}


def build(normalization: str = "none", **options) -> SchNet:
    """A small network in float64, in evaluation mode, after two batches for what has running statistics."""
    network = SchNet(normalization, **{**SMALL, "dtype": torch.float64, **options})
    for seed in (5, 6):
        network(**molecules(seed=seed))
    return network.eval()


def peer(network: SchNet, aggregation: str = "sum") -> nn.Module:
    """The same network of PyTorch Geometric, with the same weights."""
    from torch_geometric.nn.aggr import MeanAggregation
    from torch_geometric.nn.models import SchNet as Peer

    def graph(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        near = (torch.cdist(pos, pos) <= network.cutoff) & (batch[:, None] == batch)
        edges = near.fill_diagonal_(False).nonzero().T
        return edges, (pos[edges[0]] - pos[edges[1]]).norm(dim=1)

    weights = dict(network.state_dict())
    (_, channels), gaussians = weights["embedding.weight"].shape, len(weights["basis.centers"])
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(weights["embedding.weight"].dtype)
    try:
        twin = Peer(channels, channels, len(network.interactions), gaussians, network.cutoff, interaction_graph=graph)
    finally:
        torch.set_default_dtype(dtype)
    names = {
        "basis.centers": "distance_expansion.offset",
        "filters": "mlp",
        "first": "conv.lin1",
        "middle": "conv.lin2",
        "last": "lin",
        "readout.0": "lin1",
        "readout.2": "lin2",
    }
    for ours, theirs in names.items():
        weights = {key.replace(ours, theirs): value for key, value in weights.items()}
    missing, unexpected = twin.load_state_dict(weights, strict=False)
    # Their filters have two names each.
    assert not unexpected
    assert all(".conv.nn." in key for key in missing)
    for block in twin.interactions:
        if network.window == "hard":
            block.conv.cutoff = 1e15  # their window is then one everywhere
        if aggregation == "mean":
            block.conv.aggr_module = MeanAggregation()
    return twin.eval()


@pytest.mark.parametrize("window", ["hard", "cosine"])
@pytest.mark.parametrize(("name", "aggregation"), [("none", "sum"), ("neighbour mean", "mean")])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_energies_and_slopes_are_those_of_pytorch_geometric(window, name, aggregation, dtype, tolerance):
    network = SchNet(name, cutoff=3.0, window=window, dtype=dtype)
    twin, given = peer(network, aggregation), molecules()
    given["pos"] = given["pos"].to(dtype).requires_grad_()
    energies, expected = network(**given), twin(**given).squeeze(1)
    slope, expected_slope = (torch.autograd.grad(e.sum(), given["pos"])[0] for e in (energies, expected))
    torch.testing.assert_close(energies, expected, rtol=tolerance, atol=10 * tolerance)
    torch.testing.assert_close(slope, expected_slope, rtol=10 * tolerance, atol=10 * tolerance)
    assert slope.abs().max() > 1e-3


@pytest.mark.parametrize("name", [*NORMALIZATIONS, "GraphNorm", "density_norm"])
def test_energies_ignore_motions_and_order_and_forces_turn(name):
    network, given = build(name, forces="gradient"), molecules()
    energies, forces = network(**given)
    assert forces.abs().max() > 1e-4
    for improper in (False, True):
        turn = random_rotations(3, improper=improper, seed=1)[given["batch"]]
        moved = torch.einsum("nij,nj->ni", turn, given["pos"]) + torch.randn(3, 3).double()[given["batch"]]
        new_energies, new_forces = network(**{**given, "pos": moved})
        torch.testing.assert_close(new_energies, energies, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(new_forces, torch.einsum("nij,nj->ni", turn, forces), rtol=1e-8, atol=1e-8)
    # Across molecules too: the atoms of one molecule need not stand together.
    order = torch.randperm(sum(SIZES))
    new_energies, new_forces = network(**{key: value[order] for key, value in given.items()})
    torch.testing.assert_close(new_energies, energies, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(new_forces, forces[order], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("window", ["hard", "cosine"])
def test_forces_are_minus_the_slope_of_the_energy_and_can_be_trained_on(window):
    network, given, step = build(forces="gradient", window=window, cutoff=3.0), molecules((6,)), 1e-5
    _, forces = network(**given)
    assert not forces.requires_grad
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        ends = []
        for sign in (1, -1):
            pos = given["pos"].clone()
            pos[atom, axis] += sign * step
            ends.append(network(**{**given, "pos": pos})[0].item())
        assert forces[atom, axis].item() == pytest.approx(-(ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8)
    _, forces = network.train()(**given)
    gradients = torch.autograd.grad(forces.square().sum(), list(network.interactions.parameters()))
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)
    with torch.no_grad():
        energies, forces = network.eval()(**given)
    assert not energies.requires_grad
    assert forces.abs().max() > 0


def test_only_the_hard_window_jumps_at_the_cutoff():
    pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0, 4.0, 0]], dtype=torch.float64)
    jumps = {}
    for window in ("hard", "cosine"):
        network, ends = SchNet(window=window, cutoff=4.0, dtype=torch.float64), []
        for change in (-1e-7, 1e-7):
            pos[2, 1] = 4.0 + change
            ends.append(network(torch.tensor([8, 1, 1]), pos))
        jumps[window] = (ends[0] - ends[1]).abs().item()
    assert jumps["hard"] > 1e-4
    assert jumps["cosine"] < 1e-9


@pytest.mark.parametrize("name", ["none", "neighbour mean"])
def test_energies_of_molecules_that_are_far_apart_add_up(name):
    given, network = molecules((5, 4)), build(name)
    both = given["pos"] + 50.0 * given["batch"][:, None]
    parts = network(**given)
    assert network(given["z"], both).item() == pytest.approx(parts.sum().item(), rel=1e-12)


def test_batch_norm_makes_molecules_feel_each_other_and_the_checker_finds_it():
    given = molecules()
    report = gn.check_network(SchNet("neighbour mean", **SMALL), given)
    assert report.matched, report
    assert not report.couples
    report = gn.check_network(SchNet("batch", **SMALL), given)
    assert list(report.broken) == ["sample independence"]
    assert report.errors["training"]["sample independence"] > 1e-3
    assert report.errors["evaluation"]["sample independence"] < 1e-10
    assert report.blame["sample independence"].startswith("interactions.0.norm")


def test_forces_under_batch_norm_hold_the_answer_of_other_molecules():
    given = molecules()
    own = {}
    for name in ("none", "batch"):
        network = SchNet(name, **SMALL, dtype=torch.float64).train()
        pos = given["pos"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(given["z"], pos, given["batch"])[0], pos)
        own[name] = slope[given["batch"] > 0].abs().max().item()
    assert own["none"] == 0
    assert own["batch"] > 1e-4


def test_switches_leave_the_weights_alone_and_act_where_they_say():
    given, networks = molecules(), {name: SchNet(name, dtype=torch.float64) for name in NORMALIZATIONS}
    reference = networks["none"].state_dict()
    for name, network in networks.items():
        state = network.state_dict()
        assert all(torch.equal(state[key], value) for key, value in reference.items()), name
    places = {name: getattr(n.interactions[0].norm, "place", None) for name, n in networks.items()}
    assert places == {"none": None, "neighbour mean": "neighbour sum", "batch": "branch", "batch frozen": "branch"}
    seen = []
    networks["batch"].interactions[1].norm.layer.register_forward_hook(lambda m, given, out: seen.append(out))
    networks["batch"].train()(**given)
    # What the branch adds has mean zero and variance one over all atoms of the batch, in every channel.
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(128, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(seen[0].var(0, correction=0), torch.ones(128, dtype=torch.float64), atol=0.05, rtol=0)


#: What some rows cannot do without.
NEEDS = {
    "GroupNorm": {"num_groups": 2},
    "DiffGroupNorm": {"groups": 2},
    "Allegro / MACE": {"avg_num_neighbors": 4.0},
    "MACE": {"avg_num_neighbors": 4.0},
    "PerTypeScaleShift": {"scales": 2.0, "shifts": 0.5},
}
ROWS = {
    row.name: row
    for table in (gn.TABLE1, gn.AFTER_2022)
    for top in table.values()
    for row in (top, *top.variants.values())
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_that_takes_scalars_works_in_its_place(name):
    row, given, plain = ROWS[name], molecules(), SchNet(**SMALL, dtype=torch.float64)
    if row.features in ("vectors", "tensors") or name == "FieldNorm":
        with pytest.raises(ValueError, match="features that rotate, but SchNet's are scalars"):
            SchNet(name, **SMALL)
        return
    network = SchNet(name, NEEDS.get(name), **SMALL, dtype=torch.float64)
    if name == "ScaleFactor":
        for block in network.interactions:
            block.norm.layer.set(0.7)
    energies = network(**given)
    assert energies.isfinite().all()
    energies.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    # A gain and a direction of the same weight are that weight; everything else changes what the network computes.
    same = torch.allclose(energies, plain(**given), rtol=1e-9)
    assert same == (name == "WeightNorm")


def test_message_norm_compares_the_branch_with_the_features_of_the_block():
    network, given, seen = SchNet("MessageNorm", **SMALL, dtype=torch.float64), molecules(), {}
    block = network.interactions[1]
    block.register_forward_hook(lambda m, inputs, out: seen.update(h=inputs[0], out=out))
    network(**given)
    # MessageNorm gives every message the length of the features that it is added to.
    torch.testing.assert_close((seen["out"] - seen["h"]).norm(dim=1), seen["h"].norm(dim=1))


def test_batch_norm_freezes_after_the_given_number_of_batches():
    network = SchNet("batch frozen", {"freeze_after": 2}, **SMALL, dtype=torch.float64).train()
    live, given = SchNet("batch", **SMALL, dtype=torch.float64).train(), molecules()
    for seed in (1, 2):
        torch.testing.assert_close(network(**molecules(seed=seed)), live(**molecules(seed=seed)))
    before = copy.deepcopy(network.state_dict())
    frozen = network(**given)
    torch.testing.assert_close(frozen, live.eval()(**given))
    assert not torch.allclose(frozen, live.train()(**given))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    frozen.sum().backward()
    assert network.interactions[0].norm.layer.weight.grad.abs().max() > 0
    # The count travels with the weights, so that a training that is taken up again stays frozen.
    again = SchNet("batch frozen", {"freeze_after": 2}, **SMALL, dtype=torch.float64, seed=1).train()
    again.load_state_dict(before)
    torch.testing.assert_close(again(**given), frozen)


def test_weights_follow_the_seed_and_not_the_global_generator():
    state = torch.get_rng_state()
    first = SchNet(seed=3, **SMALL).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    second, other = SchNet(seed=3, **SMALL).state_dict(), SchNet(seed=4, **SMALL).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["interactions.0.last.weight"], other["interactions.0.last.weight"])


def test_empty_batches_lone_atoms_and_empty_molecules_have_energies():
    network = SchNet(**SMALL, forces="gradient")
    alone = network(torch.tensor([6]), torch.zeros(1, 3))[0]
    energies, forces = network(torch.tensor([6, 6]), torch.zeros(2, 3), torch.tensor([0, 2]), 4)
    torch.testing.assert_close(energies, torch.stack([alone[0], alone[0] * 0, alone[0], alone[0] * 0]))
    assert (forces == 0).all()
    energies, forces = network(torch.empty(0, dtype=torch.long), torch.empty(0, 3))
    assert energies.shape == (0,)
    assert forces.shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"normalization": "graphnorn"},
            "no normalization layer is called 'graphnorn': try 'GraphNorm'.*'neighbour mean'",
        ),
        ({"normalization": "GroupNorm"}, r"'GroupNorm' cannot be built: .*num_groups.*norm_options such as"),
        ({"normalization": "batch", "norm_options": {"groups": 3}}, "'batch' cannot be built: .*groups"),
        ({"norm_options": {"eps": 1.0}}, "is 'none' and has the options {'eps': 1.0}"),
        (
            {"normalization": "batch frozen", "norm_options": {"freeze_after": 0}},
            "freeze_after is 0, expected 1 or more",
        ),
        ({"window": "soft"}, "window is 'soft', expected 'hard' or 'cosine'"),
        ({"forces": "direct"}, "forces are 'direct', expected 'gradient' or None"),
        ({"num_gaussians": 1}, "1 Gaussians from 0 to 5.0 Å, expected two or more"),
    ],
)
def test_bad_requests_are_refused_with_a_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        SchNet(**{**SMALL, **options})
