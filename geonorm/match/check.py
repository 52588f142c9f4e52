"""Definition 3 as a program: is this layer a geometric match for this task?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from geonorm.layers.fields import Fields, Vectors
from geonorm.match.confusion import confusions
from geonorm.match.first_order import first_order
from geonorm.match.frozen import Function
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.measurement import HELD, Measurement
from geonorm.match.report import MatchReport, StateReport
from geonorm.match.state import states
from geonorm.match.tasks import ENERGY, Task

#: An error above the noise floor by this factor is a broken symmetry.
FACTOR = 100.0
LEVELS = ("batch", "sample", "node")


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
    probes: bool | None,
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
    names = {"irreps": irreps, "groups": groups, "irrelevant": task.irrelevant, "coordinates": coordinates}
    found = first_order(at, x, batch, probes=probes, seed=seed, **names)
    if found is None:
        return StateReport(name, degenerate="the Jacobian holds NaN or infinity")
    errors["sample independence"], removed = found
    if errors["sample independence"] <= bound:
        errors["sample independence"] = max(errors["sample independence"], at.replacement())
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
    probes: bool | None = None,
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
        probes: Measure with random probes instead of the whole Jacobian, or the other way; ``None``: probes where the
            input has more than 1500 entries, or more than 2000 if every output depends on few of them. The report says
            when, and what probes cannot prove.
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
                probes=probes,
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
