"""The network of scalars and vectors without a normalization: symmetries, forces, the cutoff, pairs, constants."""

import pytest
import torch
from models.small_molecules import molecules
from torch import Tensor
from torch.testing import assert_close
from untyped import untyped

import geonorm as gn
from geonorm.match import random_rotations
from geonorm.models.backbone import Backbone, blocks
from geonorm.testing import moved as opened

SMALL = {"width": 8, "blocks": 2, "dtype": torch.float64}
#: A molecule, an atom, two atoms, and a molecule.
SIZES = (5, 1, 2, 7)


def turned(given: dict[str, Tensor], improper: bool = False) -> tuple[Tensor, Tensor]:
    """Rotations of each molecule, by the atom, and the rotated and moved positions."""
    number = int(given["batch"].max()) + 1
    turn = random_rotations(number, improper=improper, seed=1)[given["batch"]]
    return turn, torch.einsum("nij,nj->ni", turn, given["pos"]) + torch.randn(number, 3).double()[given["batch"]]


def pairs_of(given: dict[str, Tensor]) -> Tensor:
    """All ordered pairs of different atoms of one molecule."""
    return (given["batch"][:, None] == given["batch"]).fill_diagonal_(False).nonzero().T


@pytest.mark.parametrize("improper", [False, True])
def test_energies_stay_and_forces_turn_with_the_molecules(improper):
    network, given = Backbone(**SMALL).eval(), molecules(SIZES)
    energies, forces = network(**given)
    assert forces[given["batch"] != 1].norm(dim=1).min() > 1e-3
    turn, moved = turned(given, improper)
    new_energies, new_forces = network(**{**given, "pos": moved})
    assert_close(new_energies, energies, rtol=1e-10, atol=1e-10)
    assert_close(new_forces, torch.einsum("nij,nj->ni", turn, forces), rtol=1e-9, atol=1e-9)
    order = torch.randperm(sum(SIZES))
    new_energies, new_forces = network(**{key: value[order] for key, value in given.items()})
    assert_close(new_energies, energies, rtol=1e-10, atol=1e-10)
    assert_close(new_forces, forces[order], rtol=1e-9, atol=1e-9)


def test_features_are_scalars_and_vectors():
    network, given = Backbone(**SMALL), molecules(SIZES)
    s, v, _ = network.features(**given)
    turn, moved = turned(given, improper=True)
    new_s, new_v, _ = network.features(**{**given, "pos": moved})
    assert_close(new_s, s, rtol=1e-10, atol=1e-10)
    assert_close(new_v, torch.einsum("nij,ncj->nci", turn, v), rtol=1e-10, atol=1e-10)
    assert v[given["batch"] != 1].norm(dim=2).min() > 0


@pytest.mark.parametrize("normalization", ["none", "BatchNorm", "DensityNorm"])
def test_forces_are_minus_the_slope_of_the_energy(normalization):
    network, given = Backbone(normalization, **SMALL), molecules(SIZES)
    network(**given)
    network.eval()
    direction, step = torch.randn(sum(SIZES), 3).double(), 1e-5
    forces = network(**given)[1]
    ends = [network(**{**given, "pos": given["pos"] + sign * step * direction})[0].sum() for sign in (1, -1)]
    assert_close(-(forces * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)
    assert not forces.requires_grad
    forces = network.train()(**given)[1]
    pos = given["pos"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(network.energy(given["z"], pos, given["batch"]).sum(), pos)
    assert_close(forces, -slope)


def test_a_loss_on_forces_has_the_right_slope_in_the_weights():
    network, given, step = Backbone(**SMALL), molecules(SIZES), 1e-5
    network(**given)[1].square().sum().backward()
    for parameter in (network.blocks[0].message.filters.weight, network.blocks[1].update.mix.weight):
        direction, losses = torch.randn_like(parameter), []
        for sign in (1, -1, 0):
            with torch.no_grad():
                parameter += sign * step * direction
            losses.append(network(**given)[1].square().sum().detach())
            with torch.no_grad():
                parameter -= sign * step * direction
        assert_close((parameter.grad * direction).sum(), (losses[0] - losses[1]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_energy_and_forces_are_smooth_at_the_cutoff(monkeypatch):
    pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0, 4.0, 0]], dtype=torch.float64)

    def jumps() -> tuple[float, float]:
        network, ends = opened(Backbone(**SMALL, cutoff=4.0)).eval(), []
        for change in (-1e-6, 1e-6):
            pos[2, 1] = 4.0 + change
            ends.append(network(torch.tensor([8, 1, 1]), pos))
        return tuple((one - other).abs().max().item() for one, other in zip(*ends, strict=True))

    assert max(jumps()) < 1e-9
    # As they are without the envelope: the test sees a jump where there is one.
    monkeypatch.setattr(blocks, "envelope", lambda fraction: torch.ones_like(fraction))
    assert min(jumps()) > 1e-6


def test_energies_of_molecules_that_are_far_apart_add_up():
    network, given = Backbone(**SMALL).eval(), molecules(SIZES)
    energies, forces = network(**given)
    total, same = network(given["z"], given["pos"] + 50.0 * given["batch"][:, None])
    assert total.item() == pytest.approx(energies.sum().item(), rel=1e-12)
    assert_close(same, forces, rtol=1e-9, atol=1e-9)


def test_lone_atoms_and_empty_molecules_have_energies():
    network = Backbone(**SMALL)
    alone, force = network(torch.tensor([6]), torch.zeros(1, 3).double())
    assert (force == 0).all()
    energies, _ = network(torch.tensor([6, 6]), torch.zeros(2, 3).double(), torch.tensor([0, 2]), 4)
    assert_close(energies, torch.stack([alone[0], alone[0] * 0, alone[0], alone[0] * 0]))
    nothing = torch.empty(0, dtype=torch.long)
    energies, forces = network(nothing, torch.empty(0, 3).double(), nothing, 0)
    assert energies.shape == (0,)
    assert forces.shape == (0, 3)


def test_inference_mode_and_no_grad_give_forces_too():
    network, given = Backbone(**SMALL).eval(), molecules(SIZES)
    expected = network(**given)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for value, wanted in zip(network(**given), expected, strict=True):
                assert_close(value, wanted)


def test_values_of_pairs_do_not_depend_on_order_or_orientation():
    network, given = Backbone(readout="pairs", **SMALL), molecules((5, 2, 7))
    pairs = pairs_of(given)
    values = network(**given, pair_index=pairs)
    assert values.shape == pairs.shape[1:]
    assert values.std() > 1e-3
    assert_close(network(**given, pair_index=pairs.flip(0)), values, rtol=1e-10, atol=1e-10)
    _, moved = turned(given, improper=True)
    assert_close(network(**{**given, "pos": moved}, pair_index=pairs), values, rtol=1e-9, atol=1e-9)
    values.square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("name", ["Allegro / MACE", "MACE"])
def test_the_average_of_neighbours_is_that_of_the_batches(name):
    network, batches = Backbone(name, **SMALL, cutoff=2.0), [molecules(seed=seed) for seed in (1, 2)]
    with pytest.raises(RuntimeError, match=r"constants of .* have not been fitted: call fit"):
        network(**molecules())
    found = network.fit(batches)
    near = [(torch.cdist(b["pos"], b["pos"]) < 2.0) & (b["batch"][:, None] == b["batch"]) for b in batches]
    edges, atoms = (sum(float(f(each)) for each in near) for f in (lambda each: each.sum() - len(each), len))
    assert found["avg_num_neighbors"] == pytest.approx(edges / atoms)
    places = [place.layer for block in network.blocks for place in (block.sums.scalars, block.sums.vectors)]
    assert all(layer.avg_num_neighbors.item() == pytest.approx(edges / atoms) for layer in places)
    network(**molecules())
    # The state dict says that the constants are there.
    again = Backbone(name, **SMALL, cutoff=2.0)
    again.load_state_dict(network.state_dict())
    assert_close(again(**molecules())[0], network(**molecules())[0])


def test_scale_and_shifts_are_those_of_the_targets():
    shifts = torch.tensor([1.0, -2.0, 0.5, 4.0, 3.0], dtype=torch.float64)
    network, plain = Backbone("PerTypeScaleShift", **SMALL), Backbone(**SMALL)
    batches = [molecules((5, 4, 7, 3, 6), seed=seed) for seed in (1, 2)]
    for each in batches:
        of_atoms = shifts[network.type_of_charge[each["z"]]]
        each["energy"] = torch.zeros(5).double().index_add(0, each["batch"], of_atoms)
        each["forces"] = torch.full_like(each["pos"], 3.0)
    found = network.fit(batches)
    assert found["scales"] == pytest.approx(3.0)
    assert_close(torch.tensor(found["shifts"]).double(), shifts)
    given = batches[0]
    expected = 3.0 * plain(given["z"], given["pos"], given["batch"])[0] + given["energy"]
    assert_close(network(given["z"], given["pos"], given["batch"])[0], expected)
    # A tuple as the data sets give it, and constants that were given and stay.
    as_tuple = [tuple(each[key] for key in ("z", "pos", "batch", "energy", "forces")) for each in batches]
    assert Backbone("PerTypeScaleShift", **SMALL).fit(as_tuple) == found
    assert Backbone("PerTypeScaleShift", norm_options={"scales": 2.0}, **SMALL).fit(batches) == {}
    with pytest.raises(ValueError, match="fitted to targets, expected batches with the entry 'energy'"):
        Backbone("PerTypeScaleShift", **SMALL).fit([molecules()])


def test_a_pair_is_a_sum_over_its_two_atoms():
    network, plain = (Backbone(name, readout="pairs", **SMALL) for name in ("PerTypeScaleShift", "none"))
    shifts, given = torch.tensor([1.0, -2.0, 0.5, 4.0, 3.0]).double(), molecules((9, 8, 10))
    pairs = pairs_of(given)
    of_pairs = shifts[network.type_of_charge[given["z"]]][pairs].sum(0)
    noise = 0.01 * torch.randn(len(of_pairs)).double()
    found = network.fit([{**given, "pair_index": pairs, "targets": of_pairs + noise}])
    fitted = torch.tensor(found["shifts"]).double()
    assert_close(fitted, shifts, atol=0.02, rtol=0)
    expected = found["scales"] * plain(**given, pair_index=pairs)
    expected = expected + fitted[network.type_of_charge[given["z"]]][pairs].sum(0)
    assert_close(network(**given, pair_index=pairs), expected)


def test_scale_factors_give_the_places_variance_one():
    network, batches = Backbone("ScaleFactor", **SMALL), [molecules(SIZES, seed=seed) for seed in (1, 2)]
    assert len(network.fit(batches)) == 4
    seen = []
    network.blocks[-1].after.vectors.register_forward_hook(lambda module, given, out: seen.append(out))
    for each in batches:
        network(**each)
    # The variances of the batches, of which both have as many rows, have the mean one.
    assert sum(x.var(0).mean().item() for x in seen) / 2 == pytest.approx(1, rel=1e-6)


def test_weights_follow_the_seed_and_are_the_same_for_every_normalization():
    state = torch.get_rng_state()
    first = Backbone(seed=3, **SMALL).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    for name in ("none", "EvNorm", "DiffGroupNorm", "DensityNorm"):
        second = Backbone(name, seed=3, **SMALL).state_dict()
        assert all(torch.equal(value, second[key]) for key, value in first.items())
        third = Backbone(name, seed=3, **SMALL).state_dict()
        assert all(torch.equal(value, third[key]) for key, value in second.items())
    other = Backbone(seed=4, **SMALL).state_dict()
    assert not torch.equal(first["blocks.0.update.mix.weight"], other["blocks.0.update.mix.weight"])


def test_a_step_of_training_on_energies_and_forces_lowers_the_loss():
    network, given = Backbone(width=8, blocks=2), molecules(SIZES)
    given["pos"] = given["pos"].float()
    targets = torch.randn(4), torch.randn(sum(SIZES), 3)
    optimizer, losses = torch.optim.Adam(network.parameters(), 0.003), []
    for _ in range(8):
        loss = sum((y - t).square().mean() for y, t in zip(network(**given), targets, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("EquivariantLayerNorm", []),
        ("BatchNorm", ["inversion", "rotation", "sample independence"]),
    ],
)
def test_the_checker_finds_what_a_row_breaks_and_where(name, broken):
    network = Backbone(name, **{**SMALL, "width": 4})
    with untyped():
        report = gn.check_network(network, molecules((3, 4)), gn.tasks.FORCES, outputs={"output 1": "1o"})
    assert sorted(report.broken) == broken
    assert all(module.startswith("blocks.0.after") for module in report.blame.values())
    assert len(report.blame) == len(broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": "graphnorn"}, "no normalization layer is called 'graphnorn': try 'GraphNorm'.*or 'none'"),
        ({"readout": "dipole"}, "readout is 'dipole', expected 'energy' or 'pairs'"),
        ({"on_vectors": "all"}, "on_vectors is 'all', expected 'row' or 'none'"),
        ({"cutoff": 0}, "cutoff is 0, width 8, blocks 2 and num_radial 16: expected a positive"),
        ({"norm_options": {"eps": 1.0}}, "is 'none' and has the options"),
        ({"normalization": "GraphNorm", "norm_options": {"groups": 3}}, "'GraphNorm' cannot be built: .*groups"),
        ({"normalization": "Vector Field", "on_vectors": "none"}, "layer of vectors and on_vectors is 'none'"),
    ],
)
def test_bad_requests_are_refused_with_a_way_out(options, message):
    with pytest.raises(ValueError, match=message):
        Backbone(**{**SMALL, **options})


def test_bad_inputs_are_refused_with_a_way_out():
    network, given = Backbone(**SMALL), molecules()
    with pytest.raises(ValueError, match=r"nuclear charges \[17, 92\], the network knows"):
        network(torch.tensor([1, 17, 92]), torch.randn(3, 3).double())
    with pytest.raises(ValueError, match="'energy' and pair_index is given"):
        network(**given, pair_index=pairs_of(given))
    with pytest.raises(ValueError, match="'pairs' and pair_index is missing"):
        Backbone(readout="pairs", **SMALL)(**given)
