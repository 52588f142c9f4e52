"""What each of two processes does when a batch is shared between them."""

import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor, nn

import geonorm as gn
from geonorm.layers.magnitudes import rescale
from geonorm.processes import global_sum, several_processes

WIDTH = 5
IRREPS = "2x0e+1x1o"


class Recombined(gn.EvNorm):
    """EvNorm with its content put back on its direction: one tensor, as the others give."""

    def forward(self, x: Tensor, batch: Tensor | None = None, batch_size: int | None = None) -> Tensor:
        """Content times direction, field by field."""
        content, direction = super().forward(x, batch, batch_size)
        return rescale(direction, content, self.fields.runs)


class ByType(nn.Module):
    """A layer of types on a batch whose nodes have one of three types, the second of which never occurs.

    The type follows from the features, so that a node has the same one wherever it is.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Find the types."""
        return self.layer(x, 2 * (x[:, 0] > 0.5).long())


#: The layers, with learned parameters of every kind.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: gn.BatchNorm(WIDTH),
    "BatchNorm, cumulative": lambda: gn.BatchNorm(WIDTH, momentum=None),
    "DiffGroupNorm": lambda: gn.DiffGroupNorm(WIDTH, 3, lamda=0.5),
    "VarianceNorm": lambda: gn.VarianceNorm(WIDTH),
    "on irreps": lambda: gn.Standardize(
        IRREPS,
        mean="bx",
        scale="bxm",
        learn_alpha=True,
        alpha=0.7,
        learn_exponent=True,
        exponent=0.8,
        track_running_stats=True,
    ),
    "own": lambda: gn.Standardize(WIDTH, mean="bx", scale="bxv", statistic="own", track_running_stats=True),
    "rms": lambda: gn.Standardize(WIDTH, mean="bxv", scale="bx", statistic="rms", learn_alpha=True),
    "centred over the batch, scaled per sample": lambda: gn.Standardize(WIDTH, mean="bx", scale="x"),
    "InstanceNorm": lambda: gn.InstanceNorm(WIDTH, track_running_stats=True),
    "GraphNorm": lambda: gn.GraphNorm(WIDTH),
    "QuaternionNorm": lambda: gn.QuaternionNorm(IRREPS),
    "TypedBatchNorm": lambda: ByType(gn.TypedBatchNorm(WIDTH, 3)),
    "TypedBatchNorm, cumulative": lambda: ByType(gn.TypedBatchNorm(WIDTH, 3, momentum=None)),
    "TypedBatchNorm on irreps": lambda: ByType(gn.TypedBatchNorm(IRREPS, 3)),
    "VectorNeuronNorm": lambda: gn.VectorNeuronNorm(IRREPS),
    "VectorFieldNorm": lambda: gn.VectorFieldNorm(IRREPS),
    "VectorFieldNorm, centred": lambda: gn.VectorFieldNorm(IRREPS, center_magnitude=True),
    "EvNorm": lambda: Recombined(IRREPS),
}
#: The sizes of the samples of each process: equal, unequal, and none at all.
SPLITS = {
    "even": ((3, 2), (1, 4)),
    "uneven": ((5, 1, 2), (2,)),
    "second empty": ((4, 3), ()),
    "first empty": ((), (4, 3)),
}
CALLS = 3


def share(split: str, rank: int | None, call: int) -> tuple[Tensor, Tensor, int, Tensor, Tensor]:
    """Features, batch vector, batch size and two weights of one process; of the whole batch if ``rank`` is None."""
    sizes = SPLITS[split]
    nodes = [sum(part) for part in sizes]
    generator = torch.Generator().manual_seed(call)
    x, g, v = (torch.randn(sum(nodes), WIDTH, dtype=torch.float64, generator=generator) * (1 + call) for _ in range(3))
    mine = slice(None) if rank is None else slice(0, nodes[0]) if rank == 0 else slice(nodes[0], None)
    held = [size for part in (sizes if rank is None else [sizes[rank]]) for size in part]
    batch = torch.repeat_interleave(torch.arange(len(held)), torch.tensor(held, dtype=torch.long))
    return (x[mine] + 0.5).requires_grad_(), batch, len(held), g[mine].requires_grad_(), v[mine]


def outcome(name: str, split: str, rank: int | None) -> dict[str, Tensor]:
    """Outputs, gradients, gradients of gradients and buffers of a layer after some batches."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    found = {}
    for call in range(CALLS):
        x, batch, batch_size, g, v = share(split, rank, call)
        y = layer(x, batch, batch_size)
        parameters = dict(layer.named_parameters())
        first = torch.autograd.grad((y * g).sum(), [x, *parameters.values()], create_graph=True)
        second = torch.autograd.grad((first[0] * v).sum(), [x, g, *parameters.values()], allow_unused=True)
        names = ["x", "g", *parameters]
        found |= {f"{call}: output": y, f"{call}: gradient of x": first[0]}
        found |= {f"{call}: gradient of {name}": value for name, value in zip(parameters, first[1:], strict=True)}
        for key, value in zip(names, second, strict=True):
            if value is not None:
                found[f"{call}: second gradient of {key}"] = value
    found |= {f"buffer {key}": value for key, value in layer.named_buffers() if "running" in key or "tracked" in key}
    layer.eval()
    found["output in eval mode"] = layer(x, batch, batch_size)
    return {key: value.detach().clone() for key, value in found.items()}


def sums(rank: int) -> dict[str, Tensor]:
    """A sum over processes, its gradient and the gradient of that, of tensors in different memory orders."""
    assert several_processes()
    values = torch.arange(6, dtype=torch.float64).view(3, 2).T + 10 * rank
    values = (values.contiguous() if rank else values).requires_grad_()
    total = global_sum(values)
    weight = torch.full_like(values, 1.0 + rank).requires_grad_()
    (first,) = torch.autograd.grad((total.square() * weight).sum(), values, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), values)
    return {"total": total.detach(), "first": first.detach(), "second": second.detach()}


def factors(rank: int | None) -> dict[str, float]:
    """The scale factors that are fitted to the batches of one process, or to all."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), gn.ScaleFactor(WIDTH), nn.Tanh(), gn.ScaleFactor(WIDTH)).double()
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(4 + 3 * k, WIDTH, dtype=torch.float64, generator=generator) for k in range(5)]
    return gn.fit_scale_factors(model, batches if rank is None else batches[:2] if rank == 0 else batches[2:])


def meet(rank: int, folder: str, seconds: float) -> None:
    """Form a group of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=(Path(folder) / "meeting-point").as_uri(),
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=seconds),
    )


#: The seconds after which a process gives up on the other one.
PATIENCE = 10


def step(layer: nn.Module, rank: int) -> None:
    """A training step with a double backward, on a batch that both processes share."""
    x, batch, batch_size, g, _ = share("even", rank, 0)
    (first,) = torch.autograd.grad((layer(x, batch, batch_size) * g).sum(), x, create_graph=True)
    first.square().sum().backward()


def survive(rank: int, folder: str, fate: str) -> None:
    """Two steps, of which the second process takes only the first one; the first one says how that ended."""
    # The timeout begins when both are there: a busy machine may take longer than that to start a process.
    (Path(folder) / str(rank)).touch()
    while not (Path(folder) / str(1 - rank)).exists():
        time.sleep(0.05)
    meet(rank, folder, PATIENCE)
    layer = gn.BatchNorm(WIDTH).double()
    step(layer, rank)
    if rank == 0:
        start = time.monotonic()
        try:
            step(layer, rank)
            said = "nothing"
        except RuntimeError as error:
            said = str(error)
        torch.save((said, time.monotonic() - start), Path(folder) / "said.pt")
    elif fate == "is stuck":
        while not (Path(folder) / "said.pt").exists():
            time.sleep(0.1)
    os._exit(1)  # without a word, as a process that is killed


def work(rank: int, folder: str) -> None:
    """Run everything in one of two processes and leave the results in a file."""
    meet(rank, folder, 60)
    results = {(name, split): outcome(name, split, rank) for name in LAYERS for split in SPLITS}
    torch.save({"layers": results, "sums": sums(rank), "factors": factors(rank)}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()
