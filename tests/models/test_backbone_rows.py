"""Every row of both tables in its place in one network: it trains, and the network is what the row declares."""

from functools import cache

import pytest
import torch
from models.small_molecules import molecules
from torch import Tensor
from torch.testing import assert_close
from untyped import untyped

import geonorm as gn
from geonorm.match import random_rotations
from geonorm.models.backbone import Backbone
from geonorm.models.backbone.rows import takes
from geonorm.testing import moved as opened

SMALL = {"width": 6, "blocks": 2, "num_radial": 6, "dtype": torch.float64}
#: A molecule, an atom, two atoms, and a molecule.
SIZES = (5, 1, 2, 7)
ROWS = {
    row.name: row
    for table in (gn.TABLE1, gn.AFTER_2022)
    for top in table.values()
    for row in (top, *top.variants.values())
}
#: One row for each place, and for each way in which a row is given what it takes.
PLACES = ["BatchNorm", "ScaledWeight", "Vector Field", "EGAN", "MessageNorm", "EvNorm", "SchNet", "MACE", "RMSNorm"]
PLACES += ["TensorNorm", "ScaleFactor", "DensityNorm", "PerTypeScaleShift"]
#: What breaks a symmetry breaks it by far more, what keeps it keeps it to far less.
BROKEN, KEPT = 1e-6, 1e-9


@pytest.fixture(autouse=True)
def shapes():
    """Shapes are checked by the tests of the network; here that would take longer than all the numbers."""
    with untyped():
        yield


def targets(given: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """A batch with random energies and forces."""
    return {**given, "energy": torch.randn(number).double(), "forces": torch.randn_like(given["pos"])}


def build(name: str, **options) -> Backbone:
    """A small network with its constants fitted."""
    network = Backbone(name, **{**SMALL, **options})
    if network.to_fit or name == "ScaleFactor":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sizes = (5, 1, 2, 7, 3, 4, 6)
            network.fit([targets(molecules(sizes, seed=seed), len(sizes)) for seed in (1, 2)])
    return network


@cache
def plain_energies() -> Tensor:
    """The energies of the network that normalizes nothing."""
    given = molecules(SIZES)
    return Backbone(**SMALL).energy(given["z"], given["pos"], given["batch"]).detach()


def turned(given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A rotation for every atom, one for each molecule, and the rotated positions."""
    turn = random_rotations(len(SIZES), improper=False, seed=3)[given["batch"]]
    return turn, torch.einsum("nij,nj->ni", turn, given["pos"])


def measured(network: Backbone) -> dict[str, tuple[float, float]]:
    """The relative errors of rotation, inversion and independence of samples, in training and in evaluation."""
    given, errors = molecules(SIZES), {"rotation": [], "inversion": [], "independence": []}
    first, (turn, moved) = given["batch"] == 0, turned(given)
    others = torch.where(first[:, None], given["pos"], given["pos"] * 1.1)
    network.train()(**molecules(SIZES, seed=5))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    for training in (True, False):
        network.train(training)

        def run(pos: Tensor) -> tuple[Tensor, Tensor]:
            # Always from the same buffers: a power iteration goes on with every call.
            network.load_state_dict(state)
            return tuple(value.detach() for value in network(given["z"], pos, given["batch"], len(SIZES)))

        def error(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
            return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, expected, strict=True))

        energies, forces = run(given["pos"])
        errors["rotation"].append(error(run(moved), (energies, torch.einsum("nij,nj->ni", turn, forces))))
        errors["inversion"].append(error(run(-given["pos"]), (energies, -forces)))
        alone = (energies[:1], forces[first])
        found = run(others)
        errors["independence"].append(error((found[0][:1], found[1][first]), alone))
    return errors


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains_on_forces_in_both_modes(name):
    given = targets(molecules(SIZES), len(SIZES))
    inputs = {key: given[key] for key in ("z", "pos", "batch")}
    network, again = build(name), build(name)
    (energies, forces), twins = network(**inputs), again(**inputs)
    assert torch.equal(energies, twins[0])
    assert torch.equal(forces, twins[1])
    # A gain and a direction of the same weight are that weight; everything else changes what the network computes.
    assert torch.allclose(energies, plain_energies(), rtol=1e-9) == (name == "WeightNorm")
    loss = (energies - given["energy"]).square().mean() + (forces - given["forces"]).square().mean()
    loss.backward()
    optimizer = torch.optim.SGD(network.parameters(), 1e-6)
    for training in (True, False):
        if not training:
            network.eval().zero_grad()
            pos = inputs["pos"].clone().requires_grad_()
            energies = network.energy(given["z"], pos, given["batch"])
            (slope,) = torch.autograd.grad(energies.sum(), pos, create_graph=True)
            ((slope + given["forces"]).square().mean() + energies.square().mean()).backward()
        learned = {key: value for key, value in network.named_parameters() if value.requires_grad}
        assert not [key for key, value in learned.items() if value.grad is None or not value.grad.isfinite().all()]
        optimizer.step()
        assert all(value.isfinite().all() for value in network(**inputs))


@pytest.mark.parametrize("name", ROWS)
def test_the_network_is_what_the_row_declares(name):
    row, errors = ROWS[name], measured(opened(build(name, blocks=1)))
    # Where a layer of scalars is given vectors, the network has the layer's symmetries on naive columns.
    naive, declared = takes(row) == "columns", row.properties
    expected = {
        "rotation": [naive and declared.rotation is None] * 2,
        "inversion": [naive and not declared.inversion] * 2,
        "independence": [not declared.independent_train, not declared.independent_eval],
    }
    for symmetry, broken in expected.items():
        for error, wanted in zip(errors[symmetry], broken, strict=True):
            assert error > BROKEN if wanted else error < KEPT, (symmetry, errors[symmetry], broken)


def test_two_rows_keep_in_the_network_what_they_break_on_naive_columns():
    kept = [name for name, row in ROWS.items() if row.properties.rotation is None and takes(row) != "columns"]
    # The one sees the matrix over channels of vectors, the other stands where there are only scalars.
    assert kept == ["ScaledWeight", "PerTypeScaleShift"]


@pytest.mark.parametrize("name", ["BatchNorm", "LayerNorm", "MessageNorm", "SchNet", "EGAN", "RMSNorm", "TensorNorm"])
def test_a_row_can_leave_the_vectors_alone_and_then_respects_rotations(name):
    network, given = opened(build(name, on_vectors="none")).eval(), molecules(SIZES)
    energies, moved = network.energy(**given), turned(given)[1]
    assert_close(network.energy(**{**given, "pos": moved}), energies, rtol=KEPT, atol=KEPT)
    # The vectors are there, and nothing of the row touches them.
    places = [place for block in network.blocks for place in (block.sums, block.after) if place is not None]
    s, v = torch.randn(15, 6).double(), torch.randn(15, 6, 3).double()
    known = network.graph(**given).known
    assert all(torch.equal(place(s, v, known, (s, v))[1], v) for place in places)


@pytest.mark.parametrize("name", PLACES)
def test_every_place_has_values_of_pairs(name):
    network, given = Backbone(name, readout="pairs", **SMALL), molecules((5, 2, 7))
    pairs = (given["batch"][:, None] == given["batch"]).fill_diagonal_(False).nonzero().T
    network.fit([{**given, "pair_index": pairs, "targets": torch.randn(pairs.shape[1]).double()}])
    values = network(**given, pair_index=pairs)
    values.square().sum().backward()
    assert values.isfinite().all()
    assert not [key for key, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert network.eval()(**given, pair_index=pairs).isfinite().all()


def test_layers_are_given_what_the_network_says():
    given, s, v = molecules(SIZES), torch.randn(15, 6).double(), torch.randn(15, 6, 3).double()
    old = torch.randn(15, 6).double(), torch.randn(15, 6, 3).double()

    def place(name: str) -> tuple[Tensor, Tensor]:
        network = build(name)
        block = network.blocks[0]
        return (block.after or block.sums)(s, v, network.graph(**given).known, old)

    # One tensor of each scalar and vector: three times the scalar's square, and two times that of the vector.
    new_s, new_v = place("TensorNorm")
    divisor = 1 + 3 * s.square() + 2 * v.square().sum(2)
    assert_close(new_s, s / divisor)
    assert_close(new_v, v / divisor[:, :, None])
    # One divisor for scalars and vectors together, and one length for the message of both.
    new_s, new_v = place("RMSNorm")
    columns = torch.cat([s, v.flatten(1)], 1)
    assert_close(new_s, s * columns.square().mean(1, keepdim=True).rsqrt(), rtol=1e-4, atol=1e-4)
    assert_close(torch.cat([new_s, new_v.flatten(1)], 1).square().mean(1), torch.ones(15).double(), rtol=1e-4, atol=0)
    new_s, new_v = place("MessageNorm")
    lengths = [torch.cat([a, b.flatten(1)], 1).norm(dim=1) for a, b in ((new_s, new_v), old)]
    assert_close(*lengths)
    # Scalars and naive columns apart; vectors alone; neighbours as there are, and none at the lone atom.
    new_s, new_v = place("LayerNorm per node")
    assert_close(new_s.mean(1), torch.zeros(15).double(), rtol=0, atol=1e-9)
    assert_close(new_v.mean((1, 2)), torch.zeros(15).double(), rtol=0, atol=1e-9)
    new_s, new_v = place("Vector Field")
    assert torch.equal(new_s, s)
    assert_close(new_v, v * v.square().mean((0, 2)).rsqrt()[:, None], rtol=1e-4, atol=1e-4)
    new_s, new_v = place("SchNet")
    near = (torch.cdist(given["pos"], given["pos"]) < 5) & (given["batch"][:, None] == given["batch"])
    count = near.sum(1).sub(1).clamp(min=1)
    assert_close(new_s, s / count[:, None])
    assert_close(new_v, v / count[:, None, None])
