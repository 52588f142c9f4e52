"""GemNet on real configurations, if they are there: its fitted factors, and what a molecule knows of its batch."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from untyped import untyped

from geonorm.models.gemnet import GemNet

PATH = Path(os.environ.get("GEONORM_DATA") or "missing") / "h2combustion_val_5k.npz"
pytestmark = pytest.mark.skipif(not PATH.is_file(), reason="GEONORM_DATA names no folder with h2combustion_val_5k.npz")


@pytest.fixture(autouse=True)
def shapes():
    """Shapes are checked elsewhere."""
    with untyped():
        yield


@pytest.fixture(scope="module")
def batches() -> list[tuple]:
    """Twelve batches of 32 configurations of hydrogen and oxygen, 3 to 6 atoms each."""
    with np.load(PATH) as data:
        sizes, z, pos = torch.from_numpy(data["N"]).long(), data["Z"].astype(np.int64), data["R"]
    ends = sizes.cumsum(0).tolist()
    order = np.random.default_rng(0).permutation(len(sizes))[: 12 * 32].reshape(12, 32)
    found = []
    for chosen in order:
        atoms = np.concatenate([np.arange(ends[i] - int(sizes[i]), ends[i]) for i in chosen])
        batch = torch.arange(32).repeat_interleave(sizes[chosen])
        found.append((torch.from_numpy(z[atoms]), torch.from_numpy(pos[atoms]), batch, 32))
    return found


def test_factors_are_those_of_other_implementations(batches: list[tuple]) -> None:
    factors = GemNet("small", forces="direct").fit(batches[:6])
    # Published for COLL: 2.96 to 3.50, 5.58 to 6.40, 0.88 to 1.06, 0.80 to 1.10, 2.90 to 3.79. The factors of sums grow
    # as molecules have fewer atoms, so that here they are larger.
    expected = {
        "scale_filter": (2.8, 4.3),
        "scale_sum": (5.0, 10.5),
        "interactions.0.atom_update": (1.2, 2.2),
        "outputs.0.atom_update": (1.2, 2.2),
        "scale_force": (2.4, 4.0),
    }
    assert len(factors) == 12
    for part, (least, most) in expected.items():
        found = [value for name, value in factors.items() if part in name]
        assert found
        assert all(least < value < most for value in found), (part, found)


@pytest.mark.parametrize("name", ["fitted", "batch"])
def test_the_energy_of_a_molecule_among_eight_sets_of_partners(name: str, batches: list[tuple]) -> None:
    model = GemNet("small", name)
    model.fit(batches[:2])
    z, pos, batch, _ = batches[-1]
    own, energies = batch == 0, []
    for others in batches[2:10]:
        keep = others[2] > 0
        inputs = [torch.cat([part[own], other[keep]]) for part, other in zip((z, pos, batch), others[:3], strict=True)]
        energies.append(model.energy(*inputs, 32)[0].item())
    if name == "fitted":
        assert np.ptp(energies) < 1e-5
    else:
        assert np.std(energies) > 0.05


def test_single_precision_is_enough_for_forces(batches: list[tuple]) -> None:
    model = GemNet("small")
    model.fit(batches[:2])
    z, pos, batch, size = batches[0]
    assert (pos[:, None] - pos[None]).norm(dim=2)[batch[:, None] == batch].unique()[1] < 0.8  # H–H is among them
    energy, force = model.eval()(z, pos, batch, size)
    exact_energy, exact_force = model.double()(z, pos.double(), batch, size)
    assert (energy - exact_energy).abs().max() < 1e-5 * exact_energy.abs().max()
    assert (force - exact_force).abs().max() < 1e-5 * exact_force.abs().max()
