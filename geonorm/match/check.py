"""Definition 3 as a program: is this layer a geometric match for this task?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from geonorm.layers.fields import Fields, Vectors
from geonorm.match import actions
from geonorm.match.confusion import confusions
from geonorm.match.discover import Removed, discover
from geonorm.match.errors import relative_error
from geonorm.match.frozen import Function
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.jacobian import derivative
from geonorm.match.noise import noise_floor
from geonorm.match.report import MatchReport, StateReport
from geonorm.match.rotations import rotate, rotations_of_nodes
from geonorm.match.state import states
from geonorm.match.tasks import ENERGY, Task

#: An error above the noise floor by this factor is a broken symmetry.
FACTOR = 100.0
#: What a function raises that holds the graphs of this batch and cannot take another one.
HELD = (RuntimeError, ValueError, IndexError)
LEVELS = ("batch", "sample", "node")


class Measurement:
    """One function at one input: every error that the report speaks of."""

    def __init__(self, function: Function, x: Tensor, batch: Tensor, irreps: str, outputs: str, seed: int) -> None:
        self.function, self.x, self.batch, self.seed = function, x, batch, seed
        self.irreps, self.outputs = irreps, outputs
        self.number = int(batch.max()) + 1
        self.y = self(x)
        self.floor = noise_floor(self, x, seed=seed)

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, self.batch, self.number)

    @property
    def per_sample(self) -> bool:
        """Whether the output has one row for each sample."""
        return self.y.shape[0] == self.number != self.x.shape[0]

    def degenerate(self) -> str | None:
        """What is wrong with the output as such."""
        if not torch.isfinite(self.y).all():
            return "the output holds NaN or infinity"
        if not self.y.any():
            return "the output is zero"
        spread = (self.y - self.y.mean(0)).abs().max() if len(self.y) > 1 else self.y.abs().max()
        return None if spread > 1e-12 * self.y.abs().max() else "the output is the same for all inputs"

    def node_permutation(self) -> float:
        """Reorder the nodes of each sample."""
        order = actions.permute_nodes(self.batch, self.seed)
        moved = self(self.x[order])
        return relative_error(moved, self.y if self.per_sample else self.y[order])

    def sample_permutation(self) -> float:
        """Reorder the samples."""
        order, batch = actions.permute_samples(self.batch, self.number, self.seed)
        moved = self.function(self.x[order], batch, self.number)
        first = torch.zeros(self.number, dtype=torch.long).scatter(0, batch, self.batch[order])
        return relative_error(moved, self.y[first] if self.per_sample else self.y[order])

    def rotation(self, level: str, improper: bool) -> float:
        """Rotate the input at a level; improper elements are minus a rotation for every second element."""
        g = rotations_of_nodes(self.x, self.batch, self.number, level=level, improper=improper, seed=self.seed)
        moved = self(rotate(self.x, g, self.irreps))
        rows = g
        if self.per_sample:
            first = torch.stack([torch.nonzero(self.batch == sample)[0, 0] for sample in range(self.number)])
            rows = g[first]
        return relative_error(moved, rotate(self.y, rows, self.outputs))

    def translation(self) -> float:
        """Move the raw coordinates of each sample: the output stays, or moves along."""
        generator = torch.Generator().manual_seed(self.seed)
        t = torch.randn(self.number, 3, dtype=torch.float64, generator=generator)[self.batch]
        t = t.repeat(1, self.x[0].numel() // 3)
        moved = self(self.x + t.reshape(self.x.shape))
        errors = [relative_error(moved, self.y)]
        if self.y.numel() == self.x.numel():
            errors.append(relative_error(moved, self.y + t.reshape(self.y.shape)))
        return min(errors)

    def influence(self, matrix: Tensor) -> float:
        """The part of the Jacobian that couples different samples, relative to the whole."""
        rows = torch.arange(self.number) if self.per_sample else self.batch
        square = matrix.square().reshape(len(rows), -1, len(self.x), self.x[0].numel()).sum((1, 3))
        cross = square[rows[:, None] != self.batch[None, :]].sum()
        return (cross / square.sum()).sqrt().item() if square.sum() > 0 else float("nan")

    def replacement(self) -> float:
        """Draw all other samples anew: a count or a rank in them has no derivative."""
        rows = torch.arange(self.number) if self.per_sample else self.batch
        errors = [0.0]
        for sample in range(self.number):
            other = self(actions.replace_other_samples(self.x, self.batch, sample, self.seed + sample))
            own = rows == sample
            if self.y[own].any() or other[own].any():
                errors.append(relative_error(other[own], self.y[own]))
        errors.append(self._growth())
        return torch.tensor(errors, dtype=torch.float64).max().item()  # nan wins

    def _growth(self) -> float:
        """Give the last sample one node more: the others must not feel how large it is."""
        try:
            grown = self.function(
                torch.cat([self.x, 0.7 * self.x[:1]]), torch.cat([self.batch, self.batch[-1:]]), self.number
            )
        except HELD:
            return 0.0
        last = self.number - 1 if self.per_sample else int((self.batch < self.batch[-1]).sum())
        if grown.shape[1:] != self.y.shape[1:] or not (grown[:last].any() or self.y[:last].any()):
            return 0.0  # an output as wide as the batch is large says nothing here
        return relative_error(grown[:last], self.y[:last])


def measure(
    function: Function,
    x: Tensor,
    batch: Tensor,
    task: Task,
    *,
    irreps: str,
    outputs: str,
    coordinates: bool,
    groups: int | None,
    name: str,
    seed: int,
) -> StateReport:
    """Everything about one of the functions of a layer."""
    at = Measurement(function, x, batch, irreps, outputs, seed)
    degenerate = at.degenerate()
    if degenerate:
        return StateReport(name, degenerate=degenerate)
    bound = max(FACTOR * at.floor, 1e-12)
    rotates = bool(Fields(irreps).nontrivial_types)
    errors = {"node permutation": at.node_permutation(), "sample permutation": at.sample_permutation()}
    level = None
    if rotates:
        levels = [level for level in LEVELS if level != "node" or not at.per_sample]
        turned = {each: at.rotation(each, improper=False) for each in levels}
        errors["rotation"] = turned["sample"]
        errors["inversion"] = at.rotation("sample", improper=True)
        respected = [each for each in levels if turned[each] <= bound]
        level = respected[-1] if respected and turned["batch"] <= bound else None
    if coordinates:
        errors["translation"] = at.translation()
    matrix = derivative(at, x).reshape(-1, x.numel())
    if not torch.isfinite(matrix).all():
        return StateReport(name, degenerate="the Jacobian holds NaN or infinity")
    errors["sample independence"] = at.influence(matrix)
    if errors["sample independence"] <= bound:
        errors["sample independence"] = max(errors["sample independence"], at.replacement())
    removed: Removed = discover(
        at,
        x,
        matrix,
        batch,
        irreps=irreps,
        groups=groups,
        irrelevant=task.irrelevant,
        coordinates=coordinates,
        readout=at.per_sample,
        seed=seed,
    )
    confused = {}
    if not at.per_sample:  # two different samples may well have the same energy
        with suppress(*HELD):
            confused = confusions(
                function, x, batch, irreps=irreps, irrelevant=task.irrelevant, coordinates=coordinates, seed=seed
            )
    return StateReport(name, errors, at.floor, bound, level, removed, confused)


def check(
    layer: Callable[..., Tensor],
    inputs: str | int | Vectors,
    outputs: str | int | Vectors | None = None,
    *,
    task: Task = ENERGY,
    sizes: Sequence[int] = (4, 5),
    vectors: bool = False,
    coordinates: bool = False,
    groups: int | None = None,
    seed: int = 0,
) -> MatchReport:
    """Measure whether a layer is a geometric match for a task: Definition 3 of the survey.

    Condition 1: the layer respects every symmetry of the task. Condition 2: it adds no invariance that the task does
    not declare irrelevant; what it cannot see is found from its Jacobian, not guessed. Both are measured in float64,
    in training and evaluation, as given and after parameters and running statistics have moved.

    Args:
        layer: A module or function of ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``.
        inputs: What the columns of x are: irreps such as ``"64x0e"``, a number of scalars, or ``Vectors(16)``.
        outputs: The same for the output; without it the layer's ``irreps_out``, or else the inputs.
        task: What the target respects and what it does not mind.
        sizes: The number of nodes of each sample; four or more keep small samples from being special.
        vectors: Hand the features over as ``[nodes, channels, 3]``; they must be vectors only.
        coordinates: The vectors are raw coordinates: also translate every sample.
        groups: The number of groups of channels, so that names may speak of them; without it the layer's
            ``num_groups``.
        seed: The seed of inputs and group elements.

    Returns:
        The report: ``matched``, ``broken``, ``added``, ``couples``, ``confuses``, ``level``; printed, a verdict with a
        counter-example.

    Raises:
        ValueError: If there are fewer than two samples, or the features cannot be read as what was asked for.
    """
    if len(sizes) < 2 or min(sizes) < 2:
        raise ValueError(f"sizes are {tuple(sizes)}, expected two samples or more of two nodes or more each")
    vectors = vectors or isinstance(inputs, Vectors)
    irreps = _irreps(inputs)
    fields = Fields(irreps)
    if vectors and (fields.block is None or fields.block[1] != 3):
        raise ValueError(f"inputs {inputs!r} are no vectors: with vectors=True give '16x1o' or Vectors(16)")
    given = outputs if outputs is not None else getattr(layer, "irreps_out", None)
    out = irreps if given is None else _irreps(given)
    batch = batch_of(sizes)

    def draw(seed: int) -> tuple[Tensor, Tensor, int]:
        x = generic_features(fields, sizes, seed)
        return x.reshape(len(x), *fields.block) if vectors else x, batch, len(sizes)

    reports = []
    for name, function in states(layer, draw).items():
        x, _, _ = draw(seed)
        flat = partial(_flattened, function, x.shape[1:])
        reports.append(
            measure(
                flat,
                x.flatten(1),
                batch,
                task,
                irreps=irreps,
                outputs=out,
                coordinates=coordinates,
                groups=groups if groups is not None else getattr(layer, "num_groups", None),
                name=name,
                seed=seed,
            )
        )
    return MatchReport(_name(layer), task, irreps, out, tuple(reports))


def _flattened(function: Function, shape: tuple[int, ...], x: Tensor, batch: Tensor, number: int) -> Tensor:
    """The function of flat features, with flat results."""
    y = function(x.reshape(len(x), *shape), batch, number)
    return y.reshape(len(y), -1)


def _irreps(features: str | int | Vectors) -> str:
    if isinstance(features, Vectors):
        if features.dim != 3:
            raise ValueError(f"features are {features}, expected vectors of three components: rotations act on those")
        return f"{features.channels}x1o"
    return f"{features}x0e" if isinstance(features, int) else str(features)


def _name(layer: object) -> str:
    name = getattr(layer, "__name__", None) or type(layer).__name__
    return repr(layer) if isinstance(layer, torch.nn.Module) and "\n" not in repr(layer) else name
