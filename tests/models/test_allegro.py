import numpy as np
import pytest
import torch

from geonorm.data import Frames
from geonorm.models.allegro import (
    NORMALIZATIONS,
    Allegro,
    Normalization,
    Statistics,
    collate,
    default_device,
    named_normalization,
)

pytest.importorskip("allegro")

STATISTICS = Statistics(energy_shift=-55.0, energy_scale=1.7, avg_num_neighbors=10.5)
SMALL = {"num_scalars": 8, "num_tensors": 4}


def frames(count: int = 4, seed: int = 0) -> Frames:
    """Random geometries of a molecule CHNOH2 whose atoms keep their distance."""
    rng = np.random.default_rng(seed)
    corners = 1.2 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]], dtype=float)
    return Frames(
        z=np.array([6, 1, 7, 8, 1, 1]),
        positions=corners + 0.15 * rng.normal(size=(count, 6, 3)),
        energies=rng.normal(size=count) - 330,
        forces=rng.normal(size=(count, 6, 3)),
    )


def build(name: str | Normalization = "all", **options) -> Allegro:
    options = {**SMALL, "dtype": torch.float64, **options}
    return Allegro(frames().z, STATISTICS, name, **options).eval()


def evaluate(network: Allegro, data: Frames) -> tuple[torch.Tensor, torch.Tensor]:
    return network(collate(network.graphs(data)))


def moved(data: Frames, positions: np.ndarray) -> Frames:
    return Frames(data.z, positions, data.energies, data.forces)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_forces_are_minus_the_slope_of_the_energy(name):
    network, data, step = build(name), frames(1), 1e-4
    _, forces = evaluate(network, data)
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        ends = []
        for sign in (1, -1):
            positions = data.positions.copy()
            positions[0, atom, axis] += sign * step
            ends.append(evaluate(network, moved(data, positions))[0].item())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert forces[atom, axis].item() == pytest.approx(-slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", ["all", "none"])
@pytest.mark.parametrize("reflect", [False, True])
def test_energy_stays_and_forces_turn_with_the_molecule(name, reflect):
    network, data = build(name), frames(3)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn)) * (-1 if reflect else 1)
    energies, forces = evaluate(network, data)
    new_energies, new_forces = evaluate(network, moved(data, data.positions @ turn.T + 5.0))
    torch.testing.assert_close(new_energies, energies, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(new_forces, forces @ torch.tensor(turn).T, rtol=1e-8, atol=1e-8)
    assert forces.abs().max() > 1e-3


def test_the_order_of_the_atoms_does_not_matter():
    network, data = build(), frames(2)
    order = np.array([5, 2, 0, 4, 1, 3])
    shuffled = Frames(data.z[order], data.positions[:, order], data.energies, data.forces[:, order])
    energies, forces = evaluate(network, data)
    new_energies, new_forces = evaluate(network, shuffled)
    torch.testing.assert_close(new_energies, energies, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(new_forces.view(2, 6, 3), forces.view(2, 6, 3)[:, order], rtol=1e-9, atol=1e-9)


def test_no_molecule_feels_its_batch_mates():
    network, data = build(), frames(4)
    energies, forces = evaluate(network, data)
    for index in range(4):
        energy, force = evaluate(network, data[[index]])
        assert energy.item() == pytest.approx(energies[index].item(), abs=1e-9)
        torch.testing.assert_close(force, forces.view(4, 6, 3)[index], rtol=1e-9, atol=1e-10)
    # And exactly: the energy of one molecule has no slope along the positions of another.
    batch = collate(network.graphs(data))
    batch["pos"].requires_grad_(True)
    network.train()
    energies, _ = network(batch)
    (slope,) = torch.autograd.grad(energies[0], batch["pos"])
    assert (slope[6:] == 0).all()
    assert slope[:6].abs().max() > 0


def test_the_shift_moves_energies_and_nothing_else():
    data = frames()
    energies, forces = evaluate(build("all"), data)
    without, same_forces = evaluate(build("no shift"), data)
    torch.testing.assert_close(energies - without, torch.full((4,), 6 * STATISTICS.energy_shift, dtype=torch.float64))
    torch.testing.assert_close(forces, same_forces, rtol=1e-12, atol=1e-12)


def test_the_scale_multiplies_what_the_shift_does_not_add():
    data = frames()
    energies, forces = evaluate(build("all"), data)
    without, slower = evaluate(build("no scale"), data)
    shift, scale = 6 * STATISTICS.energy_shift, STATISTICS.energy_scale
    torch.testing.assert_close(energies - shift, scale * (without - shift))
    torch.testing.assert_close(forces, scale * slower)


def test_the_neighbour_average_divides_the_environment_and_the_final_sum():
    networks = {name: build(name) for name in ("all", "no neighbors")}
    for name, average in (("all", STATISTICS.avg_num_neighbors), ("no neighbors", 1.0)):
        stack = networks[name].network.model.func
        for module in (stack.allegro.avg_num_neighbors_norm, stack.edge_eng_sum.norm_module):
            assert module.norm_const.item() == pytest.approx(average**-0.5, rel=1e-6)
    # A single neighbour pair: the environment holds one edge, so only the constants can make a difference.
    energies = [evaluate(network, frames())[0] for network in networks.values()]
    assert (energies[0] - energies[1]).abs().min() > 1e-3


def test_switches_leave_the_weights_alone():
    reference = build("all").state_dict()
    for name in NORMALIZATIONS:
        state = build(name).state_dict()
        for key, value in reference.items():
            if not key.endswith(("scales", "shifts")):
                assert torch.equal(state[key], value), (name, key)
    named = {name: (choice.shift, choice.scale, choice.neighbors) for name, choice in NORMALIZATIONS.items()}
    assert len(set(named.values())) == 8, "every combination of three switches once"
    assert named["all"] == (True, True, True)
    assert named["shift only"] == (True, False, False)
    assert named["no shift"] == (False, True, True)


def test_weights_follow_the_seed_and_not_the_global_generator():
    torch.manual_seed(5)
    first = build(seed=3).state_dict()
    torch.manual_seed(6)
    second, other = build(seed=3).state_dict(), build(seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_forces_can_be_trained_on_in_training_mode_only():
    network, data = build(), frames(2)
    _, forces = evaluate(network, data)
    assert not forces.requires_grad
    network.train()
    _, forces = evaluate(network, data)
    gradients = torch.autograd.grad(forces.square().sum(), list(network.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    with torch.no_grad():
        _, forces = network.eval()(collate(network.graphs(data)))
    assert forces.abs().max() > 0


def test_total_energies_keep_their_digits_in_a_float32_network():
    big = Statistics(-21675.0, 30.0, 10.0)
    network = Allegro(frames().z, big, dtype=torch.float32, **SMALL).eval()
    energies, _ = evaluate(network, frames())
    assert energies.dtype == torch.float64
    assert next(network.parameters()).dtype == torch.float32


def test_statistics_are_those_of_the_frames():
    data = frames(7)
    statistics = Statistics.of(data, cutoff=1.5)
    assert statistics.energy_shift == pytest.approx(data.energies.mean() / 6)
    assert statistics.energy_scale == pytest.approx(np.sqrt((data.forces**2).mean()))
    network = build(cutoff=1.5)
    edges = sum(graph["edge_index"].shape[1] for graph in network.graphs(data))
    assert statistics.avg_num_neighbors == pytest.approx(edges / (7 * 6))


def test_batches_share_no_memory_with_the_graphs():
    network, data = build(), frames(1)
    graphs = network.graphs(data)
    collate(graphs)["pos"].zero_()
    assert graphs[0]["pos"].abs().max() > 0


def test_bad_requests_are_refused_with_a_way_out(monkeypatch):
    with pytest.raises(ValueError, match=r"'no shfit'.*'no shift'"):
        build("no shfit")
    with pytest.raises(ValueError, match=r"\[7, 8\], the network knows \[1, 6\]"):
        Allegro([6, 1], STATISTICS, **SMALL).graphs(frames())
    own = Normalization(shift=False)
    assert named_normalization(own) is own
    monkeypatch.setenv("GEONORM_DEVICE", "cuda:1")
    assert default_device() == torch.device("cuda:1")
    assert default_device("cpu") == torch.device("cpu")
    monkeypatch.delenv("GEONORM_DEVICE")
    assert default_device() == torch.device("cpu")
