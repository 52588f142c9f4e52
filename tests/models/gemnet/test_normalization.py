"""The four mechanisms that normalize GemNet, each by itself."""

import math
from contextlib import nullcontext

import pytest
import torch
from models.gemnet.molecules import TINY, molecules
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from untyped import untyped

import geonorm as gn
from geonorm.models.gemnet import NORMALIZATIONS, GemNet, Normalization, named_normalization
from geonorm.models.gemnet.blocks import Bilinear
from geonorm.models.gemnet.graph import build_edges, build_triplets
from geonorm.models.gemnet.layers import Dense, Residual
from geonorm.models.gemnet.normalization import draw_weight
from geonorm.table import UnknownRowError

PLAIN = NORMALIZATIONS["plain"]


@pytest.fixture(autouse=True)
def shapes(request: pytest.FixtureRequest):
    """Fitting calls the network often, and its shapes are checked elsewhere."""
    with untyped() if "fitting" in request.node.name else nullcontext():
        yield


def batches_of(model: GemNet, number: int = 6) -> list[tuple]:
    """Batches of small molecules in the precision of a network."""
    drawn = [molecules((5, 4, 6, 3), seed) for seed in range(number)]
    return [(z, pos.to(model.circular_filter.dtype), batch) for z, pos, batch in drawn]


@pytest.mark.parametrize("forces", ["gradient", "direct"])
def test_after_fitting_every_place_keeps_the_variance_of_its_reference(forces: str) -> None:
    model = GemNet("small", forces=forces, **TINY)
    batches = batches_of(model)
    seen: dict[str, list] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            reference = inputs[1]()
            seen.setdefault(name, []).append(
                (len(output), output.detach().double().var(0).mean(), reference.detach().double().var(0).mean())
            )

        return hook

    factors = model.fit(batches)
    assert len(factors) == (5 if forces == "gradient" else 7)
    handles = [model.get_submodule(name).register_forward_hook(note(name)) for name in factors]
    for batch in batches:
        model.energy(*batch)
    for handle in handles:
        handle.remove()
    for name, value in factors.items():
        rows, output, reference = torch.tensor(seen[name], dtype=torch.float64).T
        assert ((rows * output).sum() / (rows * reference).sum()).item() == pytest.approx(1, abs=1e-4), name
        assert abs(value - 1) > 0.05, "a factor of one would show nothing"
        assert model.get_submodule(name).scale_factor.item() == pytest.approx(value)
    assert set(factors) == {n for n, module in model.named_modules() if isinstance(module, gn.ScaleFactor)}


def test_fitting_in_the_order_of_creation_gives_the_same_factors() -> None:
    """The definition, step by step: one factor at a time, blocks before outputs, references where they arise."""
    sizes = {**TINY, "num_blocks": 2}
    model, twin = (GemNet("small", forces="direct", **sizes).double().eval() for _ in range(2))
    batches = batches_of(model, 3)
    found = model.fit(batches)
    places: list[tuple[str, str]] = []  # each factor, and the module whose output is its reference
    for number in range(2):
        block = f"interactions.{number}"
        places += [
            (f"{block}.triplets.scale_filter", f"{block}.triplets.dense_in"),
            (f"{block}.triplets.scale_sum", f"{block}.triplets.dense_down"),
            (f"{block}.atom_update.scale", f"{block}.after_skip"),
        ]
    for number in range(3):
        m = f"interactions.{number - 1}" if number else "edge_embedding"
        places += [(f"outputs.{number}.atom_update.scale", m), (f"outputs.{number}.scale_force", m)]
    values: dict[str, torch.Tensor] = {}
    for name in {name for place in places for name in place}:
        module = twin.get_submodule(name)
        if isinstance(module, gn.ScaleFactor):
            module.set(1.0)
            module.register_forward_pre_hook(lambda _, inputs, name=name: values.update({name: inputs[0]}))
        else:
            module.register_forward_hook(lambda _, __, output, name=name: values.update({name: output}))
    for factor, reference in places:
        sums = torch.zeros(2, dtype=torch.float64)
        for z, pos, batch in batches:
            twin(z, pos, batch)
            given = values[reference]
            given = given[1] if isinstance(given, tuple) else given
            if factor.endswith("scale_sum"):
                given = given[build_triplets(build_edges(pos, batch, twin.cutoff)).in_edge]
            rows = len(values[factor])
            sums += rows * torch.stack([values[factor].var(0).mean(), given.var(0).mean()]).detach()
        twin.get_submodule(factor).set((sums[1] / sums[0]).sqrt().item())
        assert found[factor] == pytest.approx((sums[1] / sums[0]).sqrt().item(), rel=1e-6), factor
    assert len(found) == len(places) == 12


def test_fitting_reads_tuples_mappings_and_data_objects_and_moves_no_weight() -> None:
    from torch_geometric.data import Data

    z, pos, batch = molecules()
    given = [(z, pos, batch), {"z": z, "pos": pos, "batch": batch, "energy": 1.0}, Data(z=z, pos=pos, batch=batch)]
    found = []
    for one in given:
        model = GemNet("small", **TINY).double()
        before = {name: value.clone() for name, value in model.named_parameters()}
        found.append(model.fit([one]))
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["ones", "batch", "graph", "none"])
def test_without_factors_there_is_nothing_to_fit(name: str) -> None:
    model, before = GemNet("small", name, **TINY), GemNet("small", name, **TINY).state_dict()
    z, pos, batch = molecules()
    assert model.fit([(z, pos.float(), batch)]) == {}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_factors_of_one_leave_every_value_as_it_is() -> None:
    model = GemNet("small", "ones", forces="direct", **TINY)
    factors = [module for module in model.modules() if isinstance(module, gn.ScaleFactor)]
    x = torch.randn(4, 8)
    assert len(factors) == 7
    assert all(torch.equal(factor(x[:, : factor.channels]), x[:, : factor.channels]) for factor in factors)


@pytest.mark.parametrize("skip_scaling", [True, False])
def test_what_an_edge_learns_also_goes_to_its_reverse(skip_scaling: bool) -> None:
    model, seen = GemNet("small", Normalization("ones", skip_scaling), **TINY).double(), {}
    block = model.interactions[0].triplets
    for name, module in {"all": block, "there": block.dense_out, "back": block.dense_back}.items():
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    z, pos, batch = molecules((5, 4))
    model.energy(z, pos, batch)
    edges, message = build_edges(pos, batch, 5.0), torch.empty_like(seen["all"])
    places = list(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    for edge, (source, target) in enumerate(places):
        message[edge] = seen["there"][edge] + seen["back"][places.index((target, source))]
    assert_close(seen["all"], message / (math.sqrt(2) if skip_scaling else 1))


@pytest.mark.parametrize("piece", ["factors", "skip_scaling", "activation_scaling", "initialization"])
def test_every_piece_changes_the_energy_by_itself(piece: str) -> None:
    z, pos, batch = molecules()
    everything = Normalization("ones")
    one = Normalization(**{**vars(everything), piece: "LayerNorm" if piece == "factors" else False})
    energies = [GemNet("small", how, **TINY).double().energy(z, pos, batch) for how in (everything, one)]
    assert not torch.allclose(*energies, rtol=1e-2)


def test_a_layer_of_the_tables_or_a_function_takes_the_place_of_the_factors() -> None:
    z, pos, batch = molecules()
    groups = []

    def layer(channels: int) -> nn.Module:
        groups.append(channels)
        return gn.GroupNorm(channels, 2) if channels > 6 else nn.BatchNorm1d(channels)

    model = GemNet("small", Normalization(layer), forces="direct", **TINY).double()
    energy, force = model(z, pos, batch)
    assert groups == [8, 5, 8, 8, 8, 8, 8]
    assert torch.isfinite(energy).all()
    assert torch.isfinite(force).all()
    named = GemNet("small", Normalization("GraphNorm"), **TINY)
    assert sum(isinstance(module, gn.GraphNorm) for module in named.modules()) == 5
    with pytest.raises(UnknownRowError, match="GraphNorm"):
        GemNet("small", Normalization("GrafNorm"))


def test_names_give_the_levels_and_combinations_pass() -> None:
    assert named_normalization("plain") == Normalization("ones", False, False)
    own = Normalization("LayerNorm", initialization=False)
    assert named_normalization(own) is own


def test_the_activation_keeps_the_second_moment_and_the_skip_the_variance() -> None:
    z = torch.randn(200_000, dtype=torch.float64)
    assert (functional.silu(z) / 0.6).square().mean().sqrt().item() == pytest.approx(1, abs=0.01)
    assert (functional.silu(z) / 0.6).std().item() == pytest.approx(0.93, abs=0.01)
    x = torch.randn(5_000, 32, dtype=torch.float64)
    for how, variance in ((Normalization(), 1.0), (PLAIN, 1 + 0.1)):
        dense, residual = Dense(32, 32, how).double(), Residual(32, how).double()
        expected = functional.silu(x @ dense.weight.T) / (0.6 if how.activation_scaling else 1)
        assert_close(dense(x), expected)
        added = residual.dense(x)
        assert_close(residual(x), (x + added) / (math.sqrt(2) if how.skip_scaling else 1))
        assert residual(x).var(0).mean().item() == pytest.approx(variance, abs=0.3)


@pytest.mark.parametrize(("shape", "inputs"), [((12, 20), 1), ((64, 20), 1), ((10, 6, 4), 2), ((1, 30), 1)])
def test_weights_have_rows_of_mean_zero_and_variance_one_over_fan_in(shape: tuple[int, ...], inputs: int) -> None:
    weight = nn.Parameter(torch.empty(shape, dtype=torch.float64))
    draw_weight(weight, inputs, initialization=True)
    matrix = weight.detach().reshape(shape[0], -1)
    fan_in = matrix.shape[1]
    assert matrix.mean(1).abs().max() < 1e-12
    assert_close(matrix.var(1), torch.full((shape[0],), 1 / fan_in, dtype=torch.float64), rtol=1e-4, atol=0)
    if 1 < shape[0] < fan_in:
        gram = matrix @ matrix.T
        assert (gram - gram.diag().diag()).abs().max() < 0.5, "orthogonal but for the means"
    draw_weight(weight, inputs, initialization=False)
    assert weight.abs().max() <= 1 / math.sqrt(fan_in)
    assert weight.detach().mean().abs() > 1e-6


def test_the_bilinear_layer_equals_the_sum_over_triplets_of_the_full_form() -> None:
    _, pos, batch = molecules((5, 4))
    edges = build_edges(pos, batch, 5.0)
    triplets = build_triplets(edges)
    layer = Bilinear(6, 4, 5, Normalization()).double()
    x = torch.randn(len(edges.source), 6, dtype=torch.float64)
    radial = torch.randn(len(edges.source), 4, 3, dtype=torch.float64)
    angular = torch.randn(len(triplets.out_edge), 3, dtype=torch.float64)
    full = torch.einsum("til,tl,tf,gfi->tg", radial[triplets.out_edge], angular, x[triplets.in_edge], layer.weight)
    expected = torch.zeros(len(x), 5, dtype=torch.float64).index_add(0, triplets.out_edge, full)
    assert_close(layer(x, radial, triplets.matrices(angular), triplets), expected)
