"""PerTypeScaleShift: energies with their units, and where the constants come from."""

import copy
import math
import warnings

import pytest
import torch
from e3nn import o3
from layers.peers import assert_equal, assert_same_function, features, randomize, refused
from nequip.data import AtomicDataDict
from nequip.nn import PerTypeScaleShift as NequipScaleShift
from torch import Tensor

import geonorm as gn
from geonorm.layers.fields import Vectors

NODES = 7
TYPES = torch.tensor([0, 2, 1, 1, 0, 2, 2])
SCALES, SHIFTS = [0.5, 2.0, -1.5], [-13.6, -1030.25, -2041.125]

#: Compositions that determine the energies of three types: C, H, O in methane, water, formaldehyde, methanol.
MOLECULES = [torch.tensor(t) for t in ([0, 1, 1, 1, 1], [2, 1, 1], [0, 2, 1, 1], [1, 1, 2, 1, 0, 1])]


def nequip_of(scales: object, shifts: object, trainable: bool) -> NequipScaleShift:
    """nequip's layer, which reads dictionaries by the names of types and the default dtype at import."""
    names = ["C", "H", "O"]

    def named(values: object) -> object:
        return dict(zip(names, values, strict=True)) if isinstance(values, list) else values

    return NequipScaleShift(
        type_names=names,
        field=AtomicDataDict.PER_ATOM_ENERGY_KEY,
        scales=named(scales),
        shifts=named(shifts),
        scales_trainable=trainable,
        shifts_trainable=trainable,
        irreps_in={AtomicDataDict.PER_ATOM_ENERGY_KEY: o3.Irreps("0e")},
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("scales", "shifts"), [(SCALES, SHIFTS), (2.5, SHIFTS), (SCALES, -3.0), (2.5, -3.0), (None, SHIFTS), (2.5, None)]
)
def test_it_is_the_one_of_nequip(scales: object, shifts: object, dtype: torch.dtype) -> None:
    ours, theirs = gn.PerTypeScaleShift(1, scales, shifts, promote=True), nequip_of(scales, shifts, False)
    x = features(NODES, 1, dtype)
    data = {AtomicDataDict.PER_ATOM_ENERGY_KEY: x, AtomicDataDict.ATOM_TYPE_KEY: TYPES}
    expected = theirs(data)[AtomicDataDict.PER_ATOM_ENERGY_KEY]
    given = ours(x, TYPES)
    assert given.dtype == expected.dtype == torch.float64
    assert_equal(given, expected)


def test_it_is_the_formula_of_mace_for_one_number_each() -> None:
    layer = gn.PerTypeScaleShift(3, 0.804, -3.6)
    assert_same_function(layer, lambda x: 0.804 * x - 3.6, {"x": features(NODES, 3)})
    x = features(NODES, 3)
    assert torch.equal(layer(x, TYPES), layer(x))  # types are not looked at


def test_constants_may_be_learned() -> None:
    layer = randomize(gn.PerTypeScaleShift(2, SCALES, SHIFTS, trainable=True))
    names = [name for name, _ in layer.named_parameters()]
    assert names == ["scales", "shifts"]

    def ours(x: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"scales": scales, "shifts": shifts}, (x, TYPES))

    def formula(x: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
        return scales[TYPES, None] * x + shifts[TYPES, None]

    given = {"x": features(NODES, 2), **dict(layer.named_parameters())}
    assert_same_function(ours, formula, given)
    inputs = tuple(value.detach().requires_grad_() for value in given.values())
    assert torch.autograd.gradcheck(ours, inputs)
    assert torch.autograd.gradgradcheck(ours, inputs)
    layer.reset_parameters()
    assert layer.scales.tolist() == SCALES
    assert layer.shifts.tolist() == SHIFTS


def test_scales_reach_every_column_and_shifts_only_invariants() -> None:
    layer = gn.PerTypeScaleShift("1x0e+1x1o+1x0o+1x0e", SCALES, SHIFTS)
    x = features(NODES, 6)
    scale, shift = (
        torch.tensor(SCALES, dtype=torch.float64)[TYPES, None],
        torch.tensor(SHIFTS, dtype=torch.float64)[TYPES, None],
    )
    expected = scale * x + shift * torch.tensor([1.0, 0, 0, 0, 0, 1.0])
    assert_equal(layer(x, TYPES), expected)
    vectors = features(NODES, 12).view(NODES, 4, 3)
    assert_equal(gn.PerTypeScaleShift(Vectors(4), SCALES, SHIFTS)(vectors, TYPES), scale[..., None] * vectors)


def test_total_energies_in_float32_lose_what_promotion_keeps() -> None:
    # Uracil: twelve atoms, -11 000 eV. Differences between its shapes are fractions of an eV.
    types = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    shifts = [-1034.3, -13.6, -1745.2]
    x = 0.1 * torch.randn(200, 12, 1)
    exact = 12 * sum(shifts) / 3 + 0.37 * x.double().sum((1, 2))
    keep, promote = (gn.PerTypeScaleShift(1, 0.37, shifts, promote=flag) for flag in (False, True))
    errors = [
        max(abs(float(layer(sample, types).sum() - energy)) for sample, energy in zip(x, exact, strict=True))
        for layer in (keep, promote)
    ]
    assert errors[0] > 3e-4
    assert errors[1] < 1e-8
    assert keep(x[0], types).dtype == torch.float32
    assert keep.shifts.dtype == torch.float64
    assert gn.PerTypeScaleShift(1, 0.37, shifts, dtype=torch.float32).shifts.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    layer, x = gn.PerTypeScaleShift(1, SCALES, SHIFTS), features(NODES, 1, dtype)
    expected = (
        torch.tensor(SCALES, dtype=torch.float64)[TYPES, None] * x.double()
        + torch.tensor(SHIFTS, dtype=torch.float64)[TYPES, None]
    )
    assert torch.equal(layer(x, TYPES), expected.to(dtype))


# From a data set


def energies_of(shifts: list[float], noise: float = 0.0) -> Tensor:
    """The energies of the molecules as sums over their atoms, with something that depends on their shapes."""
    sums = torch.tensor([sum(shifts[kind] for kind in types.tolist()) for types in MOLECULES], dtype=torch.float64)
    return sums + noise * torch.randn(len(MOLECULES), dtype=torch.float64)


def test_shifts_that_explain_the_energies_are_found() -> None:
    forces = [torch.randn(len(types), 3) for types in MOLECULES]
    layer = gn.PerTypeScaleShift.from_dataset(MOLECULES, energies_of(SHIFTS), forces, num_types=3)
    assert_equal(layer.shifts, torch.tensor(SHIFTS, dtype=torch.float64))
    rms = math.sqrt(sum(f.double().square().sum().item() for f in forces) / sum(f.numel() for f in forces))
    assert layer.scales.item() == pytest.approx(rms, rel=1e-12)
    assert not list(layer.parameters())
    x = torch.zeros(5, 1, dtype=torch.float64)
    assert layer(x, MOLECULES[0]).sum().item() == pytest.approx(SHIFTS[0] + 4 * SHIFTS[1], rel=1e-14)


def test_without_forces_the_scale_is_what_is_left_of_the_energy_per_atom() -> None:
    energies = energies_of(SHIFTS, noise=0.2)
    layer = gn.PerTypeScaleShift.from_dataset(MOLECULES, energies, num_types=3, channels="1x0e+1x1o", promote=True)
    # The normal equations of least squares: what is left is orthogonal to every column of counts.
    counts = torch.stack([torch.bincount(types, minlength=3) for types in MOLECULES]).double()
    left = energies - counts @ layer.shifts
    assert (counts.T @ left).abs().max() < 1e-10
    assert left.abs().max() > 1e-3
    assert layer.scales.item() == pytest.approx(float((left / counts.sum(1)).std()), rel=1e-9)
    assert layer.promote
    assert layer.fields.dim == 4


def test_one_composition_gets_the_smallest_shifts_and_a_warning() -> None:
    uracil = torch.tensor([0] * 4 + [1] * 4 + [2] * 2 + [3] * 2)
    energies = torch.tensor([-11280.1, -11279.9, -11280.3], dtype=torch.float64)
    forces = [torch.ones(12, 3)] * 3
    with pytest.warns(UserWarning, match="compositions do not determine a shift for each type"):
        layer = gn.PerTypeScaleShift.from_dataset([uracil] * 3, energies, forces, num_types=4)
    x = torch.zeros(12, 1, dtype=torch.float64)
    assert layer(x, uracil).sum().item() == pytest.approx(-11280.1, abs=1e-9)
    # Smallest: a multiple of the composition, here 4, 4, 2, 2.
    assert_equal(layer.shifts / layer.shifts[0], torch.tensor([1.0, 1.0, 0.5, 0.5]).double())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single = gn.PerTypeScaleShift.from_dataset([torch.zeros(12).long()] * 3, energies, forces, num_types=1)
    assert single.shifts.tolist() == pytest.approx([-940.00833333333])


def test_large_energies_do_not_hide_what_is_left() -> None:
    # Energies of 1e6 eV whose scale is 1e-4 eV per atom: rounding of a single step would show.
    shifts, energies = [-1e5, -2e5, -3e5], None
    wiggle = torch.tensor([1.0, -1.0, 1.0, -1.0]) * 1e-3
    samples = MOLECULES * 2
    energies = torch.cat([energies_of(shifts) + wiggle, energies_of(shifts) - wiggle])
    layer = gn.PerTypeScaleShift.from_dataset(samples, energies, num_types=3)
    assert_equal(layer.shifts, torch.tensor(shifts, dtype=torch.float64))
    sizes = torch.tensor([len(types) for types in MOLECULES])
    expected = torch.cat([wiggle / sizes, -wiggle / sizes]).double().std()
    assert layer.scales.item() == pytest.approx(expected.item(), rel=1e-5)


def test_data_sets_that_give_no_constants_are_refused() -> None:
    make, energies = gn.PerTypeScaleShift.from_dataset, energies_of(SHIFTS)
    with refused(r"the types \[3\] never occur"):
        make(MOLECULES, energies, num_types=4)
    with refused("types are 1 to 2, expected numbers from 0 to 1"):
        make(MOLECULES, energies, num_types=2)
    with refused(r"there are 4 samples and energies of shape \[3\]"):
        make(MOLECULES, energies[:3], num_types=3)
    with refused(r"there are 0 samples and energies of shape \[0\]"):
        make([], energies[:0], num_types=3)
    with refused("the energies give the scale .*: give forces, or the scale itself"):
        make([torch.zeros(2).long()], [1.0], num_types=1)
    with refused("the forces give the scale nan"):
        make(MOLECULES, energies, [], num_types=3)
    with refused("the forces give the scale 0"):
        make(MOLECULES, energies, [torch.zeros(4, 3)], num_types=3)
    with refused(r"sample 1 has types of shape \[0\]"):
        make([MOLECULES[0], torch.zeros(0).long()], energies[:2], num_types=3)


# The module


def test_constants_travel_in_the_state_dict() -> None:
    layer, other = gn.PerTypeScaleShift(1, SCALES, SHIFTS), gn.PerTypeScaleShift(1, [1.0] * 3, [0.0] * 3)
    x = features(NODES, 1)
    other.load_state_dict(layer.state_dict())
    assert_equal(other(x, TYPES), layer(x, TYPES))
    assert_equal(copy.deepcopy(layer)(x, TYPES), layer(x, TYPES))
    assert list(layer.state_dict()) == ["scales", "shifts"]
    assert not list(gn.PerTypeScaleShift(1, None, None).state_dict())
    with torch.device("meta"):
        meta = gn.PerTypeScaleShift("1x0e+1x1o", SCALES, 1.0)
    assert meta.scales.is_meta
    assert repr(meta) == "PerTypeScaleShift('1x0e+1x1o', scales=None, shifts=None)"
    shown = "PerTypeScaleShift(1, scales=[0.5, 2.0, -1.5], shifts=[-13.6, -1030.25, -2041.125])"
    assert repr(layer) == shown


def test_no_nodes_are_fine() -> None:
    layer = gn.PerTypeScaleShift(1, SCALES, SHIFTS)
    assert layer(torch.zeros(0, 1), TYPES[:0]).shape == (0, 1)
    assert gn.PerTypeScaleShift(0, 1.0, 1.0)(torch.zeros(3, 0)).shape == (3, 0)


def test_constants_and_types_that_do_not_fit_are_refused() -> None:
    layer = gn.PerTypeScaleShift(1, SCALES, SHIFTS)
    with refused("there are constants for each type: pass types"):
        layer(torch.zeros(3, 1))
    with refused(r"types have shape \[2\], expected \[3\]"):
        layer(torch.zeros(3, 1), TYPES[:2])
    with refused("types have dtype torch.float32, expected torch.int64"):
        layer(torch.zeros(7, 1), TYPES.float())
    with refused("types are 1 to 8, expected numbers from 0 to 2: atomic numbers need a table"):
        layer(torch.zeros(2, 1), torch.tensor([8, 1]))
    with refused("there are 3 scales and 2 shifts"):
        gn.PerTypeScaleShift(1, SCALES, [1.0, 2.0])
    with refused("shifts are nan, expected finite numbers"):
        gn.PerTypeScaleShift(1, 1.0, math.nan)
    with refused(r"scales are \[\], expected finite numbers"):
        gn.PerTypeScaleShift(1, [], 1.0)
    with refused(r"x has shape \[3, 2\]"):
        layer(torch.zeros(3, 2), TYPES[:3])
