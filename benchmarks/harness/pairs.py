"""Which layer of ours is compared with which published one, on which batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import e3nn.nn
import torch
import torch_geometric.nn
from torch import nn

import geonorm as gn
from harness.cases import LENGTHS, MAIN, SIZES
from harness.steps import MODES

IRREPS = "32x0e+32x1o"
EVERYWHERE = tuple(case.name for case in MAIN)
#: Where cost is followed along one axis: the size of graphs, their number, the number of channels.
ALONG = tuple(case.name for case in (*LENGTHS, *SIZES))
SMALL = ("tiny", "mol500")
GROUPS = 10


@dataclass(frozen=True)
class Pair:
    """One of our layers and another one, mostly one that computes the same.

    Args:
        name: Our layer.
        peer: The other layer.
        ours: Builds ours, given the number of channels.
        theirs: Builds the other.
        takes_batch: Whether the other layer is called with ``(x, batch, batch_size)`` rather than ``(x)``.
        cases: The batches on which they are compared.
        same: Whether they compute the same; if not, the other one is there for its speed.
        modes: The modes that the other layer knows.
    """

    name: str
    peer: str
    ours: Callable[[int], nn.Module]
    theirs: Callable[[int], nn.Module]
    takes_batch: bool = True
    cases: tuple[str, ...] = EVERYWHERE
    same: bool = True
    modes: tuple[str, ...] = MODES


def diff_group_norm(channels: int) -> nn.Module:
    """Ours, with the groups that torch's default initialization gives after a fixed seed."""
    torch.manual_seed(0)
    assign = nn.Linear(channels, GROUPS, bias=False).weight
    layer = gn.DiffGroupNorm(channels, GROUPS)
    layer.assign.data.copy_(assign.data)
    return layer


def published_diff_group_norm(channels: int) -> nn.Module:
    """That of PyTorch Geometric, with the same groups."""
    layer = torch_geometric.nn.DiffGroupNorm(channels, GROUPS)
    layer.lin.weight.data.copy_(diff_group_norm(channels).assign.data)
    return layer


def compiled_graph_norm(channels: int) -> nn.Module:
    """That of PyTorch Geometric, compiled; torch differentiates compiled code once only."""
    torch.compiler.reset()
    return torch.compile(torch_geometric.nn.GraphNorm(channels))


PAIRS = (
    Pair("GraphNorm", "PyG GraphNorm", gn.GraphNorm, torch_geometric.nn.GraphNorm, cases=EVERYWHERE + ALONG),
    Pair("InstanceNorm", "PyG InstanceNorm", gn.InstanceNorm, torch_geometric.nn.InstanceNorm),
    Pair("LayerNorm graph", "PyG LayerNorm", gn.LayerNorm, torch_geometric.nn.LayerNorm),
    Pair("PairNorm", "PyG PairNorm", gn.PairNorm, lambda _: torch_geometric.nn.PairNorm()),
    Pair(
        "MeanSubtractionNorm",
        "PyG MeanSubtractionNorm",
        gn.MeanSubtractionNorm,
        lambda _: torch_geometric.nn.MeanSubtractionNorm(),
    ),
    Pair(
        "GraphNorm",
        "compiled PyG GraphNorm",
        gn.GraphNorm,
        compiled_graph_norm,
        cases=("tiny", "mol500", "mol2000", "prot20"),
        modes=MODES[:2],
    ),
    Pair("GraphNorm", "torch LayerNorm", gn.GraphNorm, nn.LayerNorm, takes_batch=False, same=False),
    Pair("BatchNorm", "torch BatchNorm1d", gn.BatchNorm, nn.BatchNorm1d, takes_batch=False),
    Pair("LayerNorm node", "torch LayerNorm", lambda c: gn.LayerNorm(c, mode="node"), nn.LayerNorm, takes_batch=False),
    Pair(
        "Standardize irreps",
        "e3nn BatchNorm",
        lambda _: gn.Standardize(IRREPS, mean="bx", scale="bxm", track_running_stats=True),
        lambda _: e3nn.nn.BatchNorm(IRREPS),
        takes_batch=False,
        cases=("mol2000", "prot20"),
    ),
    Pair(
        "DiffGroupNorm",
        "PyG DiffGroupNorm",
        diff_group_norm,
        published_diff_group_norm,
        takes_batch=False,
        cases=SMALL,
    ),
)
