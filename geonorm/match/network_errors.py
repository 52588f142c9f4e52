"""The measurements on a network in one state: the error of every symmetry, who is to blame, and what is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geonorm.match.blame import TOLERANCE, Rows, Trace, blamed, rows_per_sample
from geonorm.match.graphs import Graphs
from geonorm.match.network_outputs import largest_error, read_outputs
from geonorm.match.network_report import bound
from geonorm.match.network_run import Runner
from geonorm.match.removed import APPROXIMATE
from geonorm.match.rotations import random_rotations

#: An output that changes by less than this part of it has not changed.
SAME = 1e-9


@dataclass(frozen=True)
class Measured:
    """What one state of a network shows.

    Args:
        floor: The noise floor.
        errors: The relative error of every symmetry that the inputs allow, the largest over outputs.
        blame: Where a broken one breaks.
        forgets_scale: Whether no output shows how large a sample is.
        untried: What the network refused to run on.
    """

    floor: float
    errors: dict[str, float]
    blame: dict[str, str]
    forgets_scale: bool
    untried: tuple[str, ...]


def measure(run: Runner, graphs: Graphs, start: Trace, said: Mapping[str, str], seed: int) -> Measured:
    """Measure a network in one state.

    Args:
        run: The network.
        graphs: The batch.
        start: The run on the batch.
        said: What is known of the outputs.
        seed: The seed of the group elements.

    Returns:
        The measurements.
    """
    read = read_outputs(start.outputs, run, graphs, said)
    floor = _noise(run, graphs, start, seed)
    errors, blame = {}, {}
    rows = rows_per_sample(graphs, max(TOLERANCE, bound(floor)))

    def judge(symmetry: str, trace: Trace, found: Mapping, expected: Mapping, obeys: Callable) -> None:
        error = largest_error(found, expected)
        # A maximum of tensors keeps nan, which is neither below nor above anything.
        errors[symmetry] = torch.tensor([errors.get(symmetry, 0.0), error], dtype=torch.float64).max().item()
        if not error <= bound(floor) and symmetry not in blame:
            module = blamed(start, trace, obeys)
            if module:
                blame[symmetry] = module

    if any(kind in ("coordinates", "edge vectors") or kind[-1:] in "eo" for kind in graphs.kinds.values()):
        for symmetry, improper in (("rotation", False), ("inversion", True)):
            g = random_rotations(graphs.samples, improper, seed)
            trace = run(graphs.rotated(g))
            judge(symmetry, trace, trace.outputs, read.rotated(start.outputs, g), rows.same_inner_products)
    if graphs.of("coordinates"):
        t = torch.randn(graphs.samples, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        trace = run(graphs.moved(t))
        judge("translation", trace, trace.outputs, start.outputs, rows.same_or_moved_along)
    permuted, order = graphs.permuted(seed)
    trace = run(permuted)
    judge("node permutation", trace, trace.outputs, read.permuted(start.outputs, order), rows.permuted(order))
    untried: list[str] = []
    for sample in range(graphs.samples):
        own = read.of_sample(start.outputs, sample, rows)
        for trace, there, place in _beside_others(run, graphs, rows, sample, seed + sample, untried):
            kept = read.of_sample(trace.outputs, place, there)
            judge("sample independence", trace, kept, own, rows.same_in(sample, there, place))
    return Measured(floor, errors, blame, _forgets_scale(run, graphs, start, seed), tuple(dict.fromkeys(untried)))


def _beside_others(
    run: Runner, graphs: Graphs, rows: Rows, sample: int, seed: int, untried: list[str]
) -> Iterator[tuple[Trace, Rows, int]]:
    """Runs in which a sample stands beside others, with the rows of each and the number of the sample in it.

    The other samples are changed; and one of them is left out, or comes twice where a network refuses to run on fewer.
    A change alone is none where entries are whole numbers, all of them equal, or where only edges tell samples apart.
    """
    yield run(graphs.with_others_changed(sample, seed)), rows, sample
    unknown = graphs.unknown
    if unknown:
        untried.append(f"leaving a sample out: what {', '.join(unknown)} should become is not known")
        return
    number = graphs.samples
    other = (sample + 1) % number
    for order in ([one for one in range(number) if one != other], [*range(number), other]):
        batch = graphs.of_samples(order)
        trace = run.attempt(batch)
        if not isinstance(trace, str):
            yield trace, rows_per_sample(batch, rows.tolerance), order.index(sample)
            return
    untried.append(f"leaving a sample out, or taking it twice: {trace}")


def _noise(run: Runner, graphs: Graphs, start: Trace, seed: int) -> float:
    """The second difference of the outputs along a step of 10⁻⁶ of the coordinates and features."""
    generator = torch.Generator().manual_seed(seed)
    floating = {
        name: value
        for name, value in graphs.entries.items()
        if isinstance(value, Tensor) and value.is_floating_point() and graphs.kinds[name] not in ("constant", "cell")
    }
    step = {
        name: 1e-6 * value.square().mean().sqrt() * torch.randn(value.shape, dtype=value.dtype, generator=generator)
        for name, value in floating.items()
    }
    ahead = run(graphs.with_entries(**{name: value + step[name] for name, value in floating.items()})).outputs
    back = run(graphs.with_entries(**{name: value - step[name] for name, value in floating.items()})).outputs
    floor = torch.finfo(torch.get_default_dtype()).eps
    for name, value in start.outputs.items():
        if value.any() and ahead[name].shape == back[name].shape == value.shape:
            floor = max(floor, ((ahead[name] + back[name] - 2 * value).norm() / (4 * value.norm())).item())
    return floor


def _forgets_scale(run: Runner, graphs: Graphs, start: Trace, seed: int) -> bool:
    """Whether no output shows that the coordinates of samples are stretched.

    An ε in a divisor leaves a little of a lost scale. How little is judged as for a layer: beside what the output makes
    of another change of like size, not beside the output, of which a constant may be the largest part.
    """
    if not graphs.of("coordinates"):
        return False
    factors = torch.linspace(0.9, 1.1, graphs.samples, dtype=torch.float64)
    stretched, shaken = run(graphs.stretched(factors)).outputs, run(graphs.shaken(0.05, seed)).outputs
    for name, value in start.outputs.items():
        if stretched[name].shape != value.shape or shaken[name].shape != value.shape:
            return False
        seen, beside = (stretched[name] - value).norm(), (shaken[name] - value).norm()
        if not seen <= max(APPROXIMATE * beside, SAME * value.norm()):
            return False
    return True
