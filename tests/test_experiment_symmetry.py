"""Symmetry errors of networks of molecules: which layer breaks what, in which mode, and how much mates matter."""

import copy
import math

import pytest
import torch
from data.bonds import stretched_bonds
from data.springs import springs
from torch.testing import assert_close

from geonorm.experiments.symmetry import ERRORS, symmetry_errors
from geonorm.models.backbone import Backbone
from geonorm.models.gemnet import GemNet
from geonorm.models.schnet import CouplingSchNet, SchNet

SMALL = {"width": 6, "blocks": 2, "num_radial": 6}
TINY = {"num_blocks": 1, "num_spherical": 2, "num_radial": 3, "num_concat": 0, "num_before_skip": 0}
TINY |= {f"{name}_channels": 8 for name in ("atom", "edge", "triplet", "bilinear", "rbf", "cbf")}
#: What breaks a symmetry breaks it by far more, what keeps it keeps it to far less.
BROKEN, KEPT = 1e-4, 1e-10
MOLECULES = springs()[[0, 5, 10, 15, 21, 26, 31, 36]]
BATCH, PAIRS = MOLECULES.batch(range(8)), stretched_bonds().batch(range(8))

NETWORKS = {
    # In training the components of vectors have a mean and a spread of their own; later running ones.
    "columns": (lambda: Backbone("BatchNorm", **SMALL), BATCH, {"rotation", "inversion", "coupling"}, {"rotation"}),
    "vectors": (lambda: Backbone("EquivariantBatchNorm", **SMALL), BATCH, {"coupling"}, set()),
    "none": (lambda: Backbone(**SMALL), BATCH, set(), set()),
    "values": (lambda: Backbone("EquivariantBatchNorm", readout="pairs", **SMALL), PAIRS, {"coupling"}, set()),
    "gemnet": (lambda: GemNet("small", "batch", **TINY), BATCH, {"coupling"}, set()),
    "factors": (lambda: GemNet("small", "ones", **TINY), BATCH, set(), set()),
    "schnet": (lambda: SchNet("BatchNorm", channels=8, forces="gradient"), BATCH, {"coupling"}, set()),
    "energies": (lambda: SchNet(channels=8), BATCH, set(), set()),
    "couplings": (lambda: CouplingSchNet("batch", channels=8), PAIRS, {"coupling"}, set()),
}


def trained(network: torch.nn.Module, batch) -> torch.nn.Module:
    """A network whose running statistics have seen the batch."""
    network(*batch[:3], **pairs(batch))
    return network


def pairs(batch) -> dict[str, torch.Tensor]:
    return {"pair_index": batch.pair_index} if hasattr(batch, "pair_index") else {}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_broken_in_training_and_in_evaluation(name):
    build, batch, in_training, in_evaluation = NETWORKS[name]
    records = symmetry_errors(trained(build(), batch), batch)
    outputs = {"values": ["values"], "couplings": ["values"], "energies": ["energies"]}.get(name)
    outputs = outputs or ["energies", "forces"]
    assert [(r["mode"], r["output"]) for r in records] == [(m, o) for m in ("training", "evaluation") for o in outputs]
    for record in records:
        broken = in_training if record["mode"] == "training" else in_evaluation
        for error in ERRORS:
            # A reflection is a rotation too.
            if error in broken:
                assert record[error] > BROKEN, record
            elif not (error == "inversion" and "rotation" in broken):
                assert record[error] < KEPT, record


def test_coupling_is_what_other_mates_do_to_the_first_half():
    network = trained(Backbone("BatchNorm", **SMALL), BATCH).double()
    expected = symmetry_errors(network, BATCH)
    first, others = [], []
    for one in range(4):
        for found, chosen in ((first, [0, 1, 2, 3]), (others, [one, 5, 6, 7])):
            z, pos, batch, *_ = MOLECULES.batch(chosen, dtype=torch.float64)
            energies, forces = network(z, pos, batch)
            found.append((energies[chosen.index(one)][None], forces[batch == chosen.index(one)]))
    for record, own, moved in zip(expected, zip(*first, strict=True), zip(*others, strict=True), strict=False):
        own, moved = torch.cat(own), torch.cat(moved)
        error = (own - moved).norm() / (own.norm() + moved.norm())
        assert record["coupling"] == pytest.approx(error.item(), rel=1e-6)


def test_rotation_is_what_a_rotation_of_each_molecule_does():
    from geonorm.match import random_rotations

    network = trained(Backbone("BatchNorm", **SMALL), BATCH).double().eval()
    record = next(r for r in symmetry_errors(network, BATCH, seed=3) if r["mode"] == "evaluation")
    z, pos, batch, *_ = MOLECULES.batch(range(8), dtype=torch.float64)
    turn = random_rotations(8, seed=3)[batch]
    one, other = network(z, pos, batch)[0], network(z, torch.einsum("nij,nj->ni", turn, pos), batch)[0]
    assert record["rotation"] == pytest.approx(((one - other).norm() / (one.norm() + other.norm())).item(), rel=1e-6)


def test_the_network_is_left_as_it_is():
    network = trained(Backbone("BatchNorm", **SMALL), BATCH)
    before = copy.deepcopy(network.state_dict())
    symmetry_errors(network, BATCH)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.get_default_dtype() == torch.float32
    for key, value in network.state_dict().items():
        assert_close(value, before[key], rtol=0, atol=0)


def test_a_layer_that_depends_on_the_order_of_atoms_is_found():
    class Ordered(Backbone):
        def energy(self, z, pos, batch=None, batch_size=None):
            weights = torch.arange(1.0, len(z) + 1, dtype=pos.dtype)
            return super().energy(z, pos, batch, batch_size) * (weights[:, None] * pos).square().sum().sqrt()

    record = symmetry_errors(Ordered(**SMALL), BATCH)[0]
    assert record["permutation"] > BROKEN
    assert record["coupling"] > BROKEN


def test_what_is_not_finite_has_no_error():
    network = Backbone(**SMALL)
    with torch.no_grad():
        network.embedding.weight.fill_(math.nan)
    assert all(math.isnan(record[error]) for record in symmetry_errors(network, BATCH) for error in ERRORS)


def test_too_few_molecules_are_refused():
    with pytest.raises(ValueError, match="the batch has 3 molecules, expected four or more"):
        symmetry_errors(Backbone(**SMALL), MOLECULES.batch(range(3)))
