import math

import pytest
import torch
from models.small_molecules import molecules
from torch import Tensor, nn

import geonorm as gn
from geonorm.match import random_rotations
from geonorm.models.schnet import CouplingSchNet
from geonorm.models.schnet.pairs import pairs_of_samples

SMALL = {"channels": 8, "num_interactions": 2, "num_gaussians": 40}


def batch_of(sizes: tuple[int, ...] = (5, 4, 7), seed: int = 0) -> dict[str, Tensor]:
    """Molecules, and couplings between the first atom of each and all its others."""
    given, start, pairs = molecules(sizes, seed), 0, []
    for size in sizes:
        pairs += [(start, start + other) for other in range(1, size)]
        start += size
    return {**given, "pair_index": torch.tensor(pairs).T.reshape(2, -1)}


def build(normalization: str = "none", **options) -> CouplingSchNet:
    network = CouplingSchNet(normalization, **{**SMALL, "dtype": torch.float64, **options})
    for seed in (5, 6):
        network(**batch_of(seed=seed))
    return network.eval()


def dense(network: CouplingSchNet, z: Tensor, pos: Tensor, pair_index: Tensor, normalize: nn.Module | str) -> Tensor:
    """The network on molecules of one size, written out on ``[molecules, atoms, ...]`` without padding."""
    molecules, atoms = z.shape
    distances = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")
    bonds = (distances < 1.5).sum(2) - 1
    x = torch.cat(
        [
            torch.eye(5)[torch.tensor([[[1, 6, 7, 8, 9].index(c) for c in m] for m in z.tolist()]).squeeze(0)],
            torch.eye(5)[(bonds - 1) % 5],
        ],
        2,
    ).to(pos.dtype)
    plain = nn.Softplus()
    sigma = plain if network.activation == "softplus" else lambda v: torch.log(0.5 * v.exp() + 0.5)
    grid = 0.1 * torch.arange(len(network.basis.centers), dtype=pos.dtype)
    gaussians = torch.exp(-10 * (distances[..., None] - grid) ** 2)
    h = network.embedding(x)
    for block in network.interactions:
        w = sigma(block.filters[2](sigma(block.filters[0](gaussians))))
        v = torch.einsum("bjc,bijc->bic", block.first(h), w)
        if normalize == "mean":
            v = v / atoms
        v = block.last(plain(block.middle(v)))
        if isinstance(normalize, nn.Module):
            v = normalize(v.reshape(molecules * atoms, -1)).view_as(v)
        h = h + v
    features = torch.cat([h, x], 2).flatten(0, 1)
    one, other = pair_index
    length = (pos.flatten(0, 1)[one] - pos.flatten(0, 1)[other]).norm(dim=1, keepdim=True)
    y = torch.cat([features[one], features[other], length], 1)
    first, second, third = (layer for layer in network.readout if isinstance(layer, nn.Linear))
    y = torch.maximum(first(y), 0.2 * first(y))
    return third(torch.maximum(second(y), 0.2 * second(y)))


@pytest.mark.parametrize("activation", ["softplus", "shifted softplus"])
@pytest.mark.parametrize("name", ["none", "neighbour mean", "batch"])
def test_a_batch_vector_gives_what_dense_batches_of_one_size_give(activation, name):
    network = CouplingSchNet(name, activation=activation, **SMALL, dtype=torch.float64).train()
    given = batch_of((6, 6, 6, 6))
    norm = nn.BatchNorm1d(8, eps=2e-5, momentum=0.1, dtype=torch.float64)
    normalize = {"none": "", "neighbour mean": "mean", "batch": norm}[name]
    z, pos = given["z"].view(4, 6), given["pos"].view(4, 6, 3)
    expected = dense(network, z, pos, given["pair_index"], normalize)
    torch.testing.assert_close(network(**given), expected, rtol=1e-10, atol=1e-10)


def test_the_running_statistics_are_those_of_the_cited_layer():
    network = CouplingSchNet("batch", **{**SMALL, "num_interactions": 1}, dtype=torch.float64).train()
    given = batch_of((6, 6, 6, 6))
    norm = nn.BatchNorm1d(8, eps=2e-5, momentum=0.1, dtype=torch.float64)
    for _ in range(3):
        network(**given)
        dense(network, given["z"].view(4, 6), given["pos"].view(4, 6, 3), given["pair_index"], norm)
    layer = network.interactions[0].norm.layer
    torch.testing.assert_close(layer.running_mean, norm.running_mean)
    torch.testing.assert_close(layer.running_var, norm.running_var)


def test_the_number_of_parameters_is_that_of_the_cited_network():
    def number(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    assert number(CouplingSchNet("batch")) == number(CouplingSchNet("batch frozen")) == 3_773_828
    assert number(CouplingSchNet("none")) == number(CouplingSchNet("neighbour mean")) == 3_770_756


def test_the_cited_initialization_is_set_and_is_not_that_of_torch():
    network = CouplingSchNet("none")
    for module in network.modules():
        if isinstance(module, nn.Linear):
            assert (module.bias == 0).all()
            # Four standard errors of the variance of so many normal numbers.
            number, expected = module.weight.numel(), 1 / module.in_features
            assert abs(module.weight.var().item() / expected - 1) < 4 * math.sqrt(2 / number)


def test_inputs_tell_elements_and_bonds_apart():
    # CH4 with bonds of 1.1 Å, beside a lone F and an O with six neighbours.
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    methane = torch.cat([torch.zeros(1, 3).double(), 1.1 / math.sqrt(3) * corners])
    cross = 1.2 * torch.cat([torch.eye(3), -torch.eye(3)]).double()
    pos = torch.cat([methane, torch.zeros(1, 3).double(), torch.zeros(1, 3).double(), cross])
    z = torch.tensor([6, 1, 1, 1, 1, 9, 8, *[7] * 6])
    batch = torch.tensor([0] * 5 + [1] + [2] * 7)
    network, seen = CouplingSchNet("none", **SMALL, dtype=torch.float64), []
    network.embedding.register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    network(z, pos, batch, torch.zeros(2, 0, dtype=torch.long))
    element, bonds = seen[0].split(5, 1)
    assert element.argmax(1).tolist() == [1, 0, 0, 0, 0, 4, 3, *[2] * 6]
    # Four bonds, one each; none counts as the last column, and so do six.
    assert bonds.argmax(1).tolist() == [3, 0, 0, 0, 0, 4, 4, *[0] * 6]
    assert (seen[0].sum(1) == 2).all()


@pytest.mark.parametrize("name", ["none", "batch"])
def test_couplings_ignore_motions_and_the_numbering_of_atoms(name):
    network, given = build(name), batch_of()
    couplings = network(**given)
    for improper in (False, True):
        turn = random_rotations(3, improper=improper, seed=1)[given["batch"]]
        moved = torch.einsum("nij,nj->ni", turn, given["pos"]) + torch.randn(3, 3).double()[given["batch"]]
        torch.testing.assert_close(network(**{**given, "pos": moved}), couplings, rtol=1e-9, atol=1e-9)
    order = torch.randperm(16)
    places = torch.empty_like(order)
    places[order] = torch.arange(16)
    shuffled = {key: given[key][order] for key in ("z", "pos", "batch")}
    torch.testing.assert_close(network(**shuffled, pair_index=places[given["pair_index"]]), couplings)


def test_the_result_depends_on_the_order_of_the_pair_though_the_coupling_does_not():
    network, given = build(), batch_of()
    swapped = network(**{**given, "pair_index": given["pair_index"].flip(0)})
    assert (swapped - network(**given)).abs().min() > 1e-6


def test_only_live_batch_norm_makes_molecules_feel_each_other():
    given, kinds = batch_of(), {"pair_index": "edge index"}
    report = gn.check_network(build("batch"), given, kinds=kinds)
    assert list(report.broken) == ["sample independence"]
    assert report.errors["evaluation"]["sample independence"] < 1e-10
    assert report.blame["sample independence"].startswith("interactions.0.norm")
    # The molecules of the test freeze the statistics: training mode is then a function of one molecule, too.
    report = gn.check_network(build("batch frozen", norm_options={"freeze_after": 2}), given, kinds=kinds)
    assert report.matched, report


def test_positive_filters_let_the_features_grow_with_the_molecule_and_shifted_ones_do_not():
    growth = {}
    for activation in ("softplus", "shifted softplus"):
        network, sizes = CouplingSchNet("none", activation=activation, channels=128, dtype=torch.float64), []
        network.interactions[-1].register_forward_hook(lambda m, inputs, h, s=sizes: s.append(h.square().mean().sqrt()))
        for atoms in (4, 24):
            network(**batch_of((atoms,)))
        growth[activation] = (sizes[1] / sizes[0]).item()
    # Plain softplus makes every filter positive: each of three blocks multiplies by something like the number of atoms.
    assert growth["softplus"] > 30
    assert growth["shifted softplus"] < 1.2


def test_coincident_atoms_and_batches_without_couplings_are_harmless():
    network, given = build(), batch_of()
    given["pos"][1] = given["pos"][0]
    given["pos"].requires_grad_()
    couplings = network(**given)
    assert torch.autograd.grad(couplings.sum(), given["pos"])[0].isfinite().all()
    assert network(**{**given, "pair_index": torch.zeros(2, 0, dtype=torch.long)}).shape == (0, 4)
    with pytest.raises(ValueError, match=r"nuclear charges \[16\], the network knows \[1, 6, 7, 8, 9\]"):
        network(**{**given, "z": torch.full_like(given["z"], 16)})
    with pytest.raises(ValueError, match="activation is 'relu', expected one of 'softplus', 'shifted softplus'"):
        CouplingSchNet(activation="relu", **SMALL)


def test_every_pair_of_a_sample_is_found_once():
    batch = torch.tensor([2, 0, 2, 2, 0, 3])
    first, second = pairs_of_samples(batch, 5)
    found = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert found == {frozenset(pair) for pair in ((0, 2), (0, 3), (2, 3), (1, 4))}
    assert len(first) == 4
