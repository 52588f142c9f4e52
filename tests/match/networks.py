"""Small message-passing networks with a place for a layer: what a user would hand to the checker."""

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

import geonorm as gn

SIZES = (4, 5)


class Neighbors(nn.Module):
    """All pairs of atoms of a molecule closer than the cutoff, with their distance."""

    def forward(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        near = torch.cdist(pos, pos) < 6.0
        same = batch[:, None] == batch[None, :]
        edges = (near & same & ~torch.eye(len(pos), dtype=torch.bool)).nonzero().T
        return edges, (pos[edges[0]] - pos[edges[1]]).norm(dim=1)


class Network(nn.Module):
    """Energies from elements and distances, with a norm after every sum over neighbours."""

    def __init__(self, norm: nn.Module, channels: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, channels)
        self.neighbors = Neighbors()
        self.message = nn.Linear(channels + 1, channels)
        self.norm = norm
        self.readout = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        h = self.embedding(z)
        edges, distances = self.neighbors(pos, batch)
        for _ in range(2):
            near = torch.exp(-distances)[:, None]
            sums = torch.zeros_like(h).index_add(0, edges[1], self.message(torch.cat([h[edges[0]], near], 1)).tanh())
            h = h + (self.norm(sums, batch) if isinstance(self.norm, gn.Standardize) else self.norm(sums))
        return h.new_zeros(int(batch.max()) + 1, 1).index_add(0, batch, self.readout(h))


class WithForces(nn.Module):
    """Energies and forces, their negative gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> dict[str, Tensor]:
        pos = pos.requires_grad_()
        energy = self.network(z, pos, batch)
        (slope,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
        return {"energy": energy, "forces": -slope}


class Before(nn.Module):
    """A layer on raw coordinates, then a network."""

    def __init__(self, layer: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.layer, self.network = layer, network

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        return self.network(z, self.layer(pos), batch)


class OnData(nn.Module):
    """A network that takes a torch_geometric batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, data: Data) -> Tensor:
        return self.network(data.z, data.pos, data.batch)


class OnElements(nn.Module):
    """Numbers of two samples from elements and bonds alone: every input is a whole number."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(10, 8), norm

    def forward(self, z: Tensor, batch: Tensor, edge_index: Tensor) -> Tensor:
        h = self.embedding(z)
        h = h.index_add(0, edge_index[1], h[edge_index[0]])
        return h.new_zeros(2, 8).index_add(0, batch, self.norm(h))


class OnPairs(nn.Module):
    """A number for each pair, from its distance and from what a layer makes of the atoms."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm, self.readout = nn.Embedding(10, 8), norm, nn.Linear(9, 1)

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor, edge_index: Tensor) -> Tensor:
        h, (i, j) = self.norm(self.embedding(z)), edge_index
        apart = (pos[i] - pos[j]).norm(dim=1, keepdim=True)
        return self.readout(torch.cat([h[i] + h[j], apart], 1)).tanh()


def rings() -> dict[str, Tensor]:
    """The molecules, each atom bound to the next: as many pairs as atoms in every molecule."""
    edges = [torch.stack([torch.arange(size), torch.arange(size).roll(-1)]) for size in SIZES]
    return molecules() | {"edge_index": torch.cat([edges[0], SIZES[0] + edges[1]], 1)}


def molecules() -> dict[str, Tensor]:
    """Two molecules of four and five atoms."""
    generator = torch.Generator().manual_seed(0)
    return {
        "z": torch.randint(1, 9, (sum(SIZES),), generator=generator),
        "pos": 1.5 * torch.randn(sum(SIZES), 3, generator=generator),
        "batch": torch.repeat_interleave(torch.arange(2), torch.tensor(SIZES)),
    }


def as_data() -> Batch:
    """The same as a batch of torch_geometric."""
    given = molecules()
    parts = [given["batch"] == sample for sample in range(2)]
    return Batch.from_data_list([Data(z=given["z"][part], pos=given["pos"][part]) for part in parts])
