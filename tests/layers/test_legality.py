"""Theorem A: the verdict on a choice of axes is what rotating the features shows."""

import re
from itertools import product

import pytest
import torch
from e3nn import o3
from layers.choices import AXES
from layers.peers import ragged_batch
from torch import Tensor
from untyped import untyped

from geonorm.axes import Axes
from geonorm.layers.fields import Fields
from geonorm.layers.legality import LEVELS, violations
from geonorm.layers.standardize import Standardize

SIZES = (3, 2, 4)
BATCH = ragged_batch(SIZES)
NODES = sum(SIZES)
EQUIVARIANT, BROKEN = 1e-10, 1e-5


def rotations(irreps: o3.Irreps) -> dict[str, Tensor]:
    """For each level a random element of O(3) for every node, as matrices on the features."""
    elements = o3.rand_matrix(NODES, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    matrices = irreps.D_from_matrix(elements * signs[:, None, None])
    # The first nodes of the samples, and the first node of a batch with an improper element.
    return {"batch": matrices[[1] * NODES], "sample": matrices[[0, 5, 2]][BATCH], "node": matrices}


def error(layer: Standardize, x: Tensor, turn: Tensor) -> float:
    """How far turning the output is from the output of the turned features, relative to it."""

    def turned(values: Tensor) -> Tensor:
        return torch.einsum("nij,nj->ni", turn, values)

    y = layer(x, BATCH, len(SIZES))
    return float((layer(turned(x), BATCH, len(SIZES)) - turned(y)).norm() / y.norm())


@torch.no_grad()
def build(features: str, number: int, **choice) -> Standardize:
    """A layer with random gains and biases; α, τ and ε differ from one to the next."""
    alpha = 0.5 if choice["mean"] is not None and (choice["mean"].rows == "node" or number % 2) else 1.0
    exponent, eps = (1.0, 0.1) if number % 3 else (0.5, 1e-3)
    kwargs = dict(alpha=alpha, exponent=exponent, eps=eps, allow_illegal=True, dtype=torch.float64)
    layer = Standardize(features, **choice, **kwargs)
    layer.weight.uniform_(0.5, 1.5)
    if layer.bias is not None:
        layer.bias.normal_()
    return layer


def every_choice() -> list[dict]:
    """Mean and scale axes, statistic and the types that have a mean; what makes no difference is left out."""
    means = [(None, "0e"), *product(AXES, ("0e", "all"))]
    scales = [(None, "rms"), *product(AXES, ("rms", "residual", "own"))]
    return [
        dict(mean=mean, mean_on=mean_on, scale=scale, statistic=statistic)
        for (mean, mean_on), (scale, statistic) in product(means, scales)
        if not (mean is None and (scale is None or statistic == "residual"))
    ]


def is_constant(fields: Fields, scale: Axes | None, statistic: str) -> bool:
    """Whether the scale is the variance of single entries about themselves: always zero, and no statistic at all."""
    alone = all(fields.count[irrep] == 1 for irrep in fields.types)
    return statistic == "own" and scale is not None and (scale == "" or (scale == "v" and alone))


@pytest.mark.parametrize("features", ["2x0e+2x0o", "2x0o", "2x1o", "1x0e+1x1o", "2x0e+2x1e", "2x0e+2x0o+2x1o+2x2e"])
def test_the_verdict_is_the_measured_equivariance(features):
    fields = Fields(features)
    turns = rotations(fields.irreps)
    x = torch.randn(NODES, fields.dim, dtype=torch.float64) + 0.3
    wrong, counts = [], {True: 0, False: 0}
    with untyped(), torch.no_grad():
        for number, choice in enumerate(every_choice()):
            if is_constant(fields, choice["scale"], choice["statistic"]):
                continue
            layer = build(features, number, **choice)
            for level in LEVELS:
                verdict = not violations(fields, level=level, **choice)
                found = error(layer, x, turns[level])
                assert found < EQUIVARIANT or found > BROKEN, f"undecided: {found:.1e} for {choice}"
                counts[verdict] += 1
                if verdict != (found < EQUIVARIANT):
                    wrong.append(f"{choice} at level {level}: legal {verdict}, error {found:.1e}")
    assert not wrong, f"{len(wrong)} of {sum(counts.values())}:\n" + "\n".join(wrong[:10])
    assert min(counts.values()) > 500, counts


# The reasons


def reasons(features: str, mean: str | None, scale: str | None, statistic: str, mean_on: str, level: str) -> str:
    axes = (None if letters is None else Axes(letters) for letters in (mean, scale))
    return "\n".join(violations(Fields(features), *axes, statistic, mean_on=mean_on, level=level))


@pytest.mark.parametrize(
    ("wrong", "clause", "why", "right"),
    [
        (("2x1o", "xm", "xm", "rms", "all", "sample"), "M", "pools the components of 1o.* Leave m out", dict(mean="x")),
        (("2x1o", "xm", "xm", "rms", "all", "sample"), "M", "or subtract it from 0e only", dict(mean_on="0e")),
        (("1x0e+1x0o", "vtm", None, "rms", "all", "node"), "M", "mixes irrep types.* leave t out", dict(mean="vm")),
        (("2x1o", "bx", "bxm", "rms", "all", "sample"), "M", "from one sample to another.* pool x", dict(mean="x")),
        (("2x1o", "x", "xm", "rms", "all", "node"), "M", "between nodes: level 'node' allows only v", dict(mean="v")),
        (("2x0e+2x1o", "bx", "bx", "residual", "0e", "sample"), "S", r"Add m: Axes\('bxm'\)", dict(scale="bxm")),
        (("2x1o", None, "xvm", "own", "0e", "sample"), "S", "not invariant on 1o: use 'rms'", dict(statistic="rms")),
        (("2x0o", None, "bx", "own", "0e", "sample"), "S", "not invariant on 0o: use 'rms'", dict(statistic="rms")),
    ],
)
def test_a_reason_names_the_clause_and_a_way_out_that_works(wrong, clause, why, right):
    names = ("features", "mean", "scale", "statistic", "mean_on", "level")
    choice = dict(zip(names, wrong, strict=True))
    text = reasons(**choice)
    assert text.startswith(f"({clause}) ")
    assert "\n" not in text, "one mistake, one reason"
    assert re.search(why, text), text
    assert reasons(**{**choice, **right}) == ""


def test_every_mistake_has_its_own_reason():
    text = reasons("1x0e+2x1o", "bxvtm", "bx", "own", "all", "sample")
    assert [line[:3] for line in text.splitlines()] == ["(M)", "(M)", "(S)", "(S)"]


@pytest.mark.parametrize("level", LEVELS)
def test_on_invariants_everything_is_legal(level):
    for mean, scale in product(AXES, AXES):
        assert not violations(Fields(4), mean, scale, "own", mean_on="all", level=level)


# The smallest counter-examples


def vectors(mean: str | None, scale: str | None, statistic: str = "rms", eps: float = 0.0) -> Standardize:
    kwargs = dict(mean_on="all", gain=False, eps=eps, allow_illegal=True, dtype=torch.float64)
    return Standardize("1x1o", mean=mean, scale=scale, statistic=statistic, **kwargs)


def test_a_mean_over_components_changes_when_space_is_mirrored():
    layer = vectors("m", None)
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    a = torch.tensor([[3.0, 0.0, 0.0]], dtype=torch.float64)
    assert (layer(a) * mirror).tolist() == [[-2, -1, -1]]
    assert layer(a * mirror).tolist() == [[-2, 1, 1]]


def test_a_scale_for_each_component_leaves_only_signs():
    layer = vectors(None, "")
    a = torch.tensor([[3.0, 4.0, 1.0]], dtype=torch.float64)
    turned = torch.tensor([[4.0, -3.0, 1.0]], dtype=torch.float64)  # by a quarter, about the third axis
    assert layer(a).tolist() == [[1, 1, 1]]
    assert layer(turned).tolist() == [[1, -1, 1]]
    eighth = torch.tensor([[7.0, 1.0, 2**0.5]], dtype=torch.float64) / 2**0.5
    assert layer(eighth)[0].tolist() == pytest.approx([1, 1, 1]), "turned by an eighth, the output stays where it was"


def test_a_batch_mean_of_vectors_tells_samples_how_the_others_are_turned():
    layer = vectors("bx", None)
    a = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    half_turn = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    assert layer(a, torch.tensor([0, 1])).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert layer(a * half_turn, torch.tensor([0, 1])).tolist() == [[1, 0, 0], [-1, 0, 0]]


def test_the_variance_of_components_changes_when_a_vector_is_turned():
    layer = vectors(None, "m", "own", eps=1.0)
    along_the_axis = torch.tensor([[3.0, 0.0, 0.0]], dtype=torch.float64)
    along_the_diagonal = torch.full((1, 3), 3**0.5, dtype=torch.float64)
    assert along_the_axis.norm() == pytest.approx(float(along_the_diagonal.norm()))
    assert float(layer(along_the_axis).norm()) == pytest.approx(3**0.5)  # variance 2
    assert float(layer(along_the_diagonal).norm()) == pytest.approx(3.0)  # variance 0
