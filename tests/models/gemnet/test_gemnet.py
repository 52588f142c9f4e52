"""GemNet as physics asks for it: symmetries, forces, the cutoff, and molecules that do not know of each other."""

import copy
from contextlib import nullcontext

import pytest
import torch
from models.gemnet.molecules import TINY, molecules
from torch.testing import assert_close
from untyped import untyped

import geonorm as gn
from geonorm.models.gemnet import NORMALIZATIONS, GemNet, Normalization, Sizes
from geonorm.models.gemnet.graph import build_edges


@pytest.fixture(autouse=True)
def shapes(request: pytest.FixtureRequest):
    """Shapes are checked by the first tests alone: that takes longer than all the numbers."""
    with nullcontext() if "turn_with" in request.node.name or "few_atoms" in request.node.name else untyped():
        yield


def build(normalization: str | Normalization = "fitted", **options) -> GemNet:
    """A tiny network in float64, its factors fitted."""
    model = GemNet("small", normalization, **{**TINY, **options}).double()
    model.fit([molecules(seed=seed) for seed in (5, 6)])
    return model


@pytest.mark.parametrize(
    ("name", "forces"), [("fitted", "gradient"), ("batch", "gradient"), ("graph", "direct"), ("plain", "direct")]
)
def test_energies_stay_and_forces_turn_with_the_molecules(name: str, forces: str) -> None:
    model, (z, pos, batch) = build(name, forces=forces), molecules()
    energy, force = model(z, pos, batch)
    assert force.norm(dim=1).min() > 1e-4
    for improper in (1, -1):
        turns = torch.linalg.qr(torch.randn(3, 3, 3, dtype=torch.float64))[0]
        turns = turns * (improper * turns.det())[:, None, None]
        moved = (turns[batch] @ pos[:, :, None])[:, :, 0] + torch.randn(3, 3, dtype=torch.float64)[batch]
        new_energy, new_force = model(z, moved, batch)
        assert_close(new_energy, energy, rtol=1e-9, atol=1e-9)
        assert_close(new_force, (turns[batch] @ force[:, :, None])[:, :, 0], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["fitted", "batch"])
def test_the_order_of_the_atoms_of_a_batch_does_not_matter(name: str) -> None:
    model, (z, pos, batch) = build(name), molecules()
    energy, force = model(z, pos, batch)
    order = torch.randperm(len(z))
    new_energy, new_force = model(z[order], pos[order], batch[order])
    assert_close(new_energy, energy, rtol=1e-10, atol=1e-10)
    assert_close(new_force, force[order], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_forces_are_minus_the_slope_of_the_energy(name: str) -> None:
    model, (z, pos, batch) = build(name), molecules()
    direction = torch.randn_like(pos)
    _, force = model(z, pos, batch)
    ends = [model.energy(z, pos + step * direction, batch).sum() for step in (1e-5, -1e-5)]
    slope = (ends[0] - ends[1]) / 2e-5
    assert_close(-(force * direction).sum(), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["fitted", "batch"])
def test_a_loss_on_forces_has_the_right_slope_in_the_weights(name: str) -> None:
    model, (z, pos, batch) = build(name), molecules()
    model(z, pos, batch)[1].square().sum().backward()
    for parameter in (model.radial_basis.frequencies, model.circular_filter, model.edge_embedding.dense.weight):
        direction, losses = torch.randn_like(parameter), []
        for step in (1e-5, -1e-5):
            changed = copy.deepcopy(model)
            twin = dict(changed.named_parameters())[next(n for n, p in model.named_parameters() if p is parameter)]
            twin.data += step * direction
            losses.append(changed(z, pos, batch)[1].square().sum())
        assert_close((parameter.grad * direction).sum(), (losses[0] - losses[1]) / 2e-5, rtol=1e-5, atol=1e-7)


def test_second_derivatives_by_positions() -> None:
    model, (z, pos, batch) = build("ones", num_radial=2, num_spherical=3), molecules((4,))
    assert torch.autograd.gradgradcheck(lambda place: model.energy(z, place, batch), pos.requires_grad_(), atol=1e-4)


def test_the_energy_ends_smoothly_at_the_cutoff() -> None:
    model, z = build(cutoff=3.0), torch.tensor([8, 1, 1])

    def jets(d: float) -> torch.Tensor:
        """Energy and two derivatives as an atom at distance d from its neighbour leaves."""
        length = torch.tensor(d, dtype=torch.float64, requires_grad=True)
        fixed = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)
        energy = model.energy(z, fixed + length * torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]])).sum()
        (first,) = torch.autograd.grad(energy, length, create_graph=True)
        (second,) = torch.autograd.grad(first, length) if first.requires_grad else (torch.zeros(()),)
        return torch.stack([energy.detach(), first.detach(), second.double()])

    def change(gap: float) -> torch.Tensor:
        return (jets(3.0 - gap) - jets(3.0 + 1e-9)).abs()

    assert (change(1.0) > 1e-3).all()
    # Both edges of O–H and H–H go at their own distance; the second derivative goes linearly, the first quadratically.
    near, nearer = change(1e-3), change(1e-4)
    assert (nearer < 1e-2).all()
    assert ((near / nearer)[1:] > torch.tensor([50.0, 5.0])).all()


def test_molecules_far_apart_in_one_graph_are_the_sum_of_their_energies() -> None:
    model, (z, pos, batch) = build(), molecules((5, 6))
    energy, force = model(z, pos, batch)
    together, force_together = model(z, pos + 50.0 * batch[:, None])
    assert_close(together, energy.sum()[None], rtol=1e-12, atol=1e-12)
    assert_close(force_together, force, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", ["fitted", "ones", "plain", "batch", "graph"])
def test_only_batch_normalization_lets_molecules_see_each_other(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    model = build(name).to(dtype)
    z, pos, _ = molecules((5,))
    for training in (True, False):
        model.train(training)
        energies = []
        for seed in range(1, 4):
            others, their_pos, batch = molecules((4, 6), seed)
            inputs = torch.cat([z, others]), torch.cat([pos, their_pos]).to(dtype), torch.cat([0 * z, batch + 1])
            energies.append(model.energy(*inputs)[0])
        spread = (max(energies) - min(energies)) / energies[0].abs()
        assert (spread > 1e-3) if name == "batch" and training else (spread < tolerance)


def test_with_batch_normalization_forces_of_one_molecule_hold_slopes_of_another() -> None:
    model, (z, pos, batch) = build("batch"), molecules((4, 5))
    pos.requires_grad_()
    (slope,) = torch.autograd.grad(model.energy(z, pos, batch)[1], pos)
    assert slope[batch == 0].abs().max() > 1e-3
    (slope,) = torch.autograd.grad(build().energy(z, pos, batch)[1], pos)
    assert not slope[batch == 0].any()


def test_the_checker_blames_the_batch_normalization() -> None:
    z, pos, batch = molecules((4, 5))
    data = {"z": z, "pos": pos, "batch": batch}
    for name, expected in (("fitted", True), ("batch", False)):
        model = build(name, num_before_skip=0, num_atom=0)
        report = gn.check_network(model, data, gn.tasks.ENERGY, outputs={"output 1": "1o"})
        assert report.matched == expected
    assert set(report.broken) == {"sample independence"}
    assert report.blame["sample independence"] == "outputs.0.atom_update.scale"


def test_forces_of_edges_add_up_to_zero_if_coupled() -> None:
    z, pos, batch = molecules((4, 5))
    for coupled in (False, True):
        force = build(forces="direct", coupled=coupled)(z, pos, batch)[1]
        net = torch.zeros(2, 3, dtype=torch.float64).index_add(0, batch, force).abs().max()
        assert (net < 1e-12) if coupled else (net > 1e-3)


@pytest.mark.parametrize("forces", ["gradient", "direct"])
@pytest.mark.parametrize("name", ["ones", "batch", "graph"])
def test_few_atoms(name: str, forces: str) -> None:
    model = GemNet("small", name, forces, **TINY)
    one, two = torch.tensor([8]), torch.tensor([1, 1])
    near = torch.tensor([[0.0, 0, 0], [0.74, 0, 0]])
    for z, pos in ((one[:0], near[:0]), (one, near[:1]), (two, near), (two, 10 * near), (two, 0 * near)):
        energy, force = model(z, pos, 0 * z, 1)
        assert energy.shape == (1,)
        assert force.shape == (len(z), 3)
        assert torch.isfinite(energy).all()
        assert torch.isfinite(force).all()
        if name == "ones":
            assert bool(energy.any()) == bool(force.any()) == (pos is near)
        (energy.sum() + force.square().sum()).backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.energy(one, near[:1], torch.tensor([2]), 4).shape == (4,)


def test_atoms_in_line_have_finite_derivatives() -> None:
    model, z = build("ones"), torch.tensor([8, 6, 8, 1])
    pos = torch.tensor([[0.0, 0, 0], [1.16, 0, 0], [2.32, 0, 0], [-1.0, 0, 0]], dtype=torch.float64)
    energy, force = model(z, pos)
    assert force[:, 0].abs().min() > 1e-4
    assert not force[:, 1:].any()
    (energy.sum() + force.square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_evaluation_gives_numbers_and_training_a_graph() -> None:
    model, (z, pos, batch) = build(), molecules((4, 5))
    energy, force = model(z, pos, batch)
    assert energy.requires_grad
    assert force.requires_grad
    assert not pos.requires_grad
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert_close(model(z, pos, batch), (energy.detach(), force.detach()))
    energy, force = model.eval()(z, pos, batch)
    assert not energy.requires_grad
    assert not force.requires_grad
    assert model.energy(z, pos, batch).requires_grad


def test_positions_may_have_more_digits_than_the_network() -> None:
    model, (z, pos, batch) = build().float(), molecules((4, 5))
    energy, force = model(z, pos, batch)
    assert energy.dtype == torch.float32
    assert force.dtype == torch.float64
    assert_close(force.float(), model(z, pos.float(), batch)[1], rtol=1e-3, atol=1e-4)


def test_a_state_dict_carries_the_factors_and_statistics() -> None:
    z, pos, batch = molecules((4, 5))
    for name in ("fitted", "batch"):
        model, other = build(name), GemNet("small", name, seed=1, **TINY).double()
        model(z, pos, batch)
        other.load_state_dict(model.state_dict())
        assert_close(other.eval()(z, pos, batch), model.eval()(z, pos, batch), rtol=0, atol=0)


def test_the_published_size_has_the_published_number_of_weights() -> None:
    counts = {size: sum(p.numel() for p in GemNet(size, "ones").parameters()) for size in ("default", "small")}
    assert counts["default"] == 1_892_294
    assert counts["small"] == 219_270


def test_the_seed_alone_decides_the_weights() -> None:
    before = torch.get_rng_state()
    one, two, other = (GemNet("small", "ones", seed=seed, **TINY).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])


def test_bad_arguments_are_named() -> None:
    z, pos, batch = molecules((4, 5))
    for message, call in {
        "unknown normalization 'L0'": lambda: GemNet("small", "L0"),
        "unknown size 'tiny'": lambda: GemNet("tiny"),
        "unknown sizes": lambda: GemNet("small", width=3),
        "num_radial is 0": lambda: GemNet("small", num_radial=0),
        "forces is 'none'": lambda: GemNet("small", forces="none"),
        "cutoff is -1": lambda: GemNet("small", cutoff=-1.0),
        "MessageNorm needs": lambda: GemNet("small", Normalization("MessageNorm")),
        "nuclear charges from 0": lambda: build("ones").energy(0 * z, pos, batch),
        "batch_size is 1 but": lambda: build("ones").energy(z, pos, batch, 1),
        "num_blocks is -1": lambda: Sizes(num_blocks=-1),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        GemNet("small", **TINY).energy(z, pos.float(), batch)


def test_the_network_shows_its_sizes() -> None:
    text = repr(GemNet("small", "batch"))
    parts = ("RadialBasis(6, cutoff=5.0)", "SphericalBesselBasis(5, 6, cutoff=5.0)", "AtomEmbedding(64, elements=93)")
    assert all(part in text for part in (*parts, "Bilinear(32, 16, 32)", "scale_sum): BatchNorm(32)"))


def test_energies_and_forces_are_sums_over_blocks_atoms_and_edges() -> None:
    model, seen, (z, pos, batch) = build("ones", forces="direct"), [], molecules((4, 5))
    for block in model.outputs:
        block.register_forward_hook(lambda _, __, output: seen.append(output))
    energy, force = model(z, pos, batch)
    edges, expected = build_edges(pos, batch, model.cutoff), torch.zeros_like(pos)
    assert len(seen) == model.sizes.num_blocks + 1 == 2
    assert_close(energy[0], sum(atoms[batch == 0].sum() for atoms, _ in seen))
    for number, (source, target) in enumerate(zip(edges.source.tolist(), edges.target.tolist(), strict=True)):
        away = pos[target] - pos[source]
        expected[target] += sum(along[number] for _, along in seen) * away / away.norm()
    assert_close(force, expected)
