import copy
import math

import numpy as np
import pytest
import torch
from data.bonds import stretched_bonds
from data.springs import springs
from torch import Tensor, nn

from geonorm.experiments import gemnet_errors, layer_sizes, schnet
from geonorm.models.backbone import Backbone
from geonorm.models.gemnet import GemNet
from geonorm.models.schnet import CouplingSchNet

TINY = {"num_spherical": 2, "num_radial": 3, "num_concat": 0, "num_before_skip": 0}
TINY |= {f"{name}_channels": 8 for name in ("atom", "edge", "triplet", "bilinear", "rbf", "cbf")}


class Diagonal(nn.Module):
    """Multiply every feature by a weight of its own."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class Both(nn.Module):
    """The input itself, and its double."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, 2 * x


def total(network: nn.Module, batch: Tensor) -> dict[str, tuple[Tensor, int]]:
    return {"loss": (network(batch).sum(), len(batch))}


def by_layer(sizes: list[dict], key: str) -> dict[str, float]:
    return {record["layer"]: record[key] for record in sizes}


def test_sizes_of_known_scales():
    first, both, last = Diagonal(3.0, 0.5), Both(), Diagonal(-1.0, 4.0)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.both, self.last = first, both, last

        def forward(self, x):
            return self.last(self.both(self.first(x))[1])

    x = torch.tensor([[1.0, 10.0], [2.0, 10.0], [3.0, 10.0]])
    layers = {"first": first, "same": (both, 0), "double": (both, 1), "last": last}
    sizes = layer_sizes(Network(), x, total, layers)
    assert [record["layer"] for record in sizes] == [*layers]
    # The columns are 3 (1, 2, 3) and 5 (1, 1, 1): what all rows share has a size and no variance.
    size, variance = math.sqrt((9 * 14 + 3 * 25) / 6), 9 / 2
    assert by_layer(sizes, "activation") == pytest.approx(
        {"first": size, "same": size, "double": 2 * size, "last": 2 * math.sqrt((9 * 14 + 16 * 3 * 25) / 6)}
    )
    assert by_layer(sizes, "variance") == pytest.approx(
        {"first": variance, "same": variance, "double": 4 * variance, "last": 4 * variance}
    )
    gradients = by_layer(sizes, "weight_gradient")
    # Σ over rows of 2 w' x, and of 2 w x.
    assert gradients["first"] == pytest.approx(math.sqrt((12**2 + 240**2) / 2))
    assert gradients["last"] == pytest.approx(math.sqrt((36**2 + 30**2) / 2))
    assert math.isnan(gradients["same"])
    assert math.isnan(layer_sizes(Network(), x[:1], total, layers)[0]["variance"])


def test_a_layer_that_is_called_twice_and_one_that_is_not_used():
    used, unused = Diagonal(2.0), Diagonal(1.0)
    network, x = nn.Sequential(used, used), torch.tensor([[1.0], [1.0]])
    sizes = layer_sizes(network, x, total, {"used": used})
    # Of both calls: rows 2, 2, 4, 4.
    assert sizes[0]["activation"] == pytest.approx(math.sqrt(10))
    assert sizes[0]["variance"] == pytest.approx(4 / 3)
    # A parameter that the loss does not depend on has a gradient of zero.
    used.spare = nn.Parameter(torch.ones(3))
    assert layer_sizes(network, x, total, {"used": used})[0]["weight_gradient"] == pytest.approx(8 / 2)
    with pytest.raises(ValueError, match="the network does not call the layer 'unused'"):
        layer_sizes(network, x, total, {"used": used, "unused": unused})


def test_nothing_of_the_network_changes():
    network = CouplingSchNet("batch", channels=8, num_gaussians=20).eval()
    batch = stretched_bonds().batch(range(6))
    before = copy.deepcopy(network.state_dict())
    layer_sizes(network, batch)
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(ZeroDivisionError):
        layer_sizes(network, batch, lambda network, batch: 1 / 0)
    assert not any(module._forward_hooks for module in network.modules())
    assert not network.training


def test_the_factors_of_gemnet_show_in_the_variance():
    coils = springs()
    batch = coils.batch(range(20))
    networks = {name: GemNet("small", name, num_blocks=2, device="cpu", **TINY) for name in ("fitted", "ones", "batch")}
    factors = networks["fitted"].fit([(*batch[:3], 20)])
    sizes = {name: layer_sizes(network, batch) for name, network in networks.items()}
    names = [record["layer"] for record in sizes["ones"]]
    assert names[:2] == ["edge embedding", "output 0"]
    assert names[2:] == [
        f"{name} {number}"
        for number in (1, 2)
        for name in ("triplet filter", "triplet sum", "triplet message", "atom sum", "atoms", "edges", "output")
    ]
    # The first place of a factor has equal inputs in both networks.
    first = {name: by_layer(of_network, "variance")["triplet filter 1"] for name, of_network in sizes.items()}
    alpha = factors["interactions.0.triplets.scale_filter"]
    assert first["fitted"] / first["ones"] == pytest.approx(alpha**2, rel=1e-4)
    rows = len(networks["ones"]._geometry(*batch[1:3], 20)[0].edges.source)
    # But for ε, which is not so small beside the variance of a muted filter.
    assert first["batch"] == pytest.approx(rows / (rows - 1), rel=0.05)
    last = by_layer(sizes["ones"], "activation")["output 2"]
    network = networks["ones"]
    energies = []
    network.outputs[2].register_forward_hook(lambda module, arguments, output: energies.append(output[0]))
    loss = gemnet_errors.errors(network.train(), batch)["loss"][0]
    assert last == pytest.approx(energies[0].square().mean().sqrt().item(), rel=1e-5)
    loss.backward()
    flat = torch.cat([p.grad.flatten() for p in network.edge_embedding.parameters()])
    expected = flat.square().mean().sqrt().item()
    assert by_layer(sizes["ones"], "weight_gradient")["edge embedding"] == pytest.approx(expected, rel=1e-4)


def test_batch_norm_in_schnet_shows_after_the_branch():
    batch = stretched_bonds().batch(range(8))
    options = {"channels": 8, "num_gaussians": 20, "num_interactions": 2}
    sizes = {name: layer_sizes(CouplingSchNet(name, **options), batch) for name in ("none", "batch")}
    names = [record["layer"] for record in sizes["none"]]
    blocks = [f"{name} {number}" for number in (1, 2) for name in ("filters", "branch", "atoms")]
    assert names == ["embedding", *blocks, "read-out"]
    variances = {name: by_layer(of_network, "variance") for name, of_network in sizes.items()}
    for layer in ("embedding", "filters 1", "branch 1"):
        assert variances["batch"][layer] == variances["none"][layer]
    assert variances["batch"]["atoms 1"] != pytest.approx(variances["none"]["atoms 1"], rel=0.1)
    network = CouplingSchNet("none", **options)
    schnet.errors(network, batch)["loss"][0].backward()
    flat = torch.cat([p.grad.flatten() for p in network.readout.parameters()])
    gradient = by_layer(sizes["none"], "weight_gradient")["read-out"]
    assert gradient == pytest.approx(flat.square().mean().sqrt().item(), rel=1e-4)


def forces_only(network: Backbone, batch: tuple) -> dict[str, tuple[Tensor, int]]:
    z, pos, index, _, forces = batch
    return {"loss": ((network(z, pos, index)[1] - forces).square().mean(), len(z))}


def test_scalars_and_vectors_of_the_backbone():
    batch = springs().batch(range(12))
    network = Backbone("BatchNorm", width=8, blocks=2, elements=(1, 8), on_vectors="none")
    sizes = layer_sizes(network, batch, forces_only)
    blocks = ("sum of scalars", "sum of vectors", "scalars", "vectors")
    names = [f"{name} {number}" for number in (1, 2) for name in blocks]
    assert [record["layer"] for record in sizes] == ["embedding", *names, "read-out"]
    atoms = len(batch[0])
    variance = by_layer(sizes, "variance")
    for number in (1, 2):
        # The unbiased variance of what has the biased variance one.
        assert variance[f"scalars {number}"] == pytest.approx(atoms / (atoms - 1), rel=1e-2)
    # Sums of unit vectors times constants: the mean of the variances of components stays when everything is turned.
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    turned = layer_sizes(network, (batch[0], batch[1] @ turn, *batch[2:4], batch[4] @ turn), forces_only)
    for key in ("activation", "variance", "weight_gradient"):
        assert by_layer(turned, key) == pytest.approx(by_layer(sizes, key), rel=1e-3)


def test_what_is_missing_is_said():
    x = torch.ones(2, 1)
    with pytest.raises(ValueError, match="no experiment trains a Diagonal: give errors"):
        layer_sizes(Diagonal(1.0), x)
    with pytest.raises(ValueError, match="Diagonal does not say which of its layers to measure: give layers"):
        layer_sizes(Diagonal(1.0), x, total)
    assert np.isfinite(layer_sizes(net := Diagonal(1.0), x, total, {"all": net})[0]["activation"])
