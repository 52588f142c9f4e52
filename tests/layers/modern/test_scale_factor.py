"""ScaleFactor: silent never, fitted once, and then a constant."""

import copy
import json
import math

import pytest
import torch
from e3nn import o3
from layers.peers import assert_equal, features, refused
from torch import Tensor, nn

import geonorm as gn

CHANNELS = 4


class Layers(nn.Module):
    """Maps that change the variance, each followed by a factor that keeps it; created in another order than met."""

    def __init__(self, depth: int = 3, **factory) -> None:
        super().__init__()
        self.factors = nn.ModuleList(gn.ScaleFactor(CHANNELS, **factory) for _ in range(depth))
        self.maps = nn.ModuleList(nn.Linear(CHANNELS, CHANNELS, **factory) for _ in range(depth))
        self.dropout = nn.Dropout(0.9)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """The last factor first."""
        for factor, linear in zip(reversed(self.factors), self.maps, strict=True):
            y = self.dropout(torch.tanh(3 * linear(x)))
            scaled = factor(y, x)
            self.seen.append((x.detach(), scaled.detach()))
            x = scaled
        return x


def batches(number: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Batches of different sizes."""
    return [features(10 + 7 * place, CHANNELS, dtype) for place in range(number)]


def variance(parts: list[Tensor]) -> float:
    """Mean over columns of the unbiased variance over rows; batches weigh by their rows."""
    rows = sum(len(part) for part in parts)
    return float(sum(len(part) * part.double().var(0).mean() for part in parts)) / rows


def test_a_factor_that_was_not_fitted_says_how_to_fit_it() -> None:
    factor = gn.ScaleFactor(CHANNELS)
    assert math.isnan(factor.scale_factor.item())
    with pytest.raises(RuntimeError, match=r"has not been fitted: call geonorm.fit_scale_factors\(model, batches\)"):
        factor(features(3, CHANNELS))
    assert repr(factor) == "ScaleFactor(4, scale_factor=None)"


def test_after_fitting_every_variance_is_that_of_its_reference() -> None:
    model, given = Layers(dtype=torch.float64), batches()
    found = gn.fit_scale_factors(model, given)
    assert list(found) == ["factors.2", "factors.1", "factors.0"]  # in the order in which they are met
    assert all(found[name] == model.get_submodule(name).scale_factor.item() for name in found)
    assert all(abs(value - 1) > 0.01 for value in found.values())
    model.eval()
    model.seen.clear()
    with torch.no_grad():
        for batch in given:
            model(batch)
    for place in range(3):
        references, outputs = zip(*model.seen[place::3], strict=True)
        assert variance(outputs) == pytest.approx(variance(references), rel=1e-12)


def test_without_a_reference_the_variance_becomes_one() -> None:
    model = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), gn.ScaleFactor(CHANNELS), nn.Tanh(), gn.ScaleFactor(CHANNELS))
    model, given = model.double(), batches()
    found = gn.fit_scale_factors(model, given)
    with torch.no_grad():
        first = [model[0](batch) for batch in given]
        second = [torch.tanh(found["1"] * y) for y in first]
    assert found["1"] == pytest.approx(variance(first) ** -0.5, rel=1e-12)
    assert found["3"] == pytest.approx(variance(second) ** -0.5, rel=1e-12)


def test_a_reference_may_be_made_when_it_is_asked_for() -> None:
    factor, x, made = gn.ScaleFactor(CHANNELS).double(), features(20, CHANNELS), []

    def reference() -> Tensor:
        made.append(3 * x)
        return made[-1]

    gn.fit_scale_factors(factor, [(x, reference)])
    assert factor.scale_factor.item() == pytest.approx(3, rel=1e-12)
    count = len(made)
    assert_equal(factor(x, reference), 3 * x)
    assert len(made) == count


def test_references_may_have_other_rows_and_columns() -> None:
    class Gather(nn.Module):
        """A neighbour sum, scaled to the variance of the messages."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = gn.ScaleFactor(2, dtype=torch.float64)

        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            """Nodes are columns of sums over rows of edges."""
            return self.scale(nodes, edges)

    model = Gather()
    given = [{"nodes": features(4 + k, 2), "edges": features(20 + k, 5)} for k in range(3)]
    found = gn.fit_scale_factors(model, given)
    rows = sum(len(batch["nodes"]) for batch in given)
    wanted = sum(len(b["nodes"]) * b["edges"].var(0).mean() for b in given) / rows
    own = sum(len(b["nodes"]) * b["nodes"].var(0).mean() for b in given) / rows
    assert found == {"scale": pytest.approx(math.sqrt(wanted / own), rel=1e-12)}
    # Tuples hold arguments too, batches that give no variance count for nothing, and any iterable will do.
    pairs = ((batch["nodes"], batch["edges"]) for batch in given)
    single = [(features(1, 2), features(9, 5)), (features(9, 2), features(1, 5))]
    assert gn.fit_scale_factors(model, [*pairs, *single]) == found
    called = gn.fit_scale_factors(model, given, call=lambda model, batch: model(batch["nodes"], batch["edges"]))
    assert called == found


def test_fitting_again_gives_the_same_factors() -> None:
    model, given = Layers(dtype=torch.float64), batches()
    found = gn.fit_scale_factors(model, iter(given))
    assert gn.fit_scale_factors(model, given) == found
    assert list(gn.fit_scale_factors(copy.deepcopy(model), given).values()) == list(found.values())


def test_fitting_changes_nothing_but_the_factors() -> None:
    model = nn.Sequential(nn.BatchNorm1d(CHANNELS), Layers()).train()
    model[1].maps[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gn.fit_scale_factors(model, batches(dtype=torch.float32))
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) is ("scale_factor" not in name), name
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("fitted", [False, True])
def test_a_failed_fit_leaves_everything_as_it_was(fitted: bool) -> None:
    model, given = Layers(dtype=torch.float64).train(), batches()
    if fitted:
        gn.fit_scale_factors(model, given)
    before = [factor.scale_factor.clone() for factor in model.factors]
    with torch.no_grad():
        model.maps[1].weight.zero_()
    with refused("factors.1 cannot be fitted: the variance of its input is 0 and that of its reference"):
        gn.fit_scale_factors(model, given)
    assert [factor.fitted for factor in model.factors] == [fitted] * 3
    assert all(torch.equal(a.scale_factor, b) or not fitted for a, b in zip(model.factors, before, strict=True))
    assert all(factor.scale_factor.isnan() for factor in model.factors if not fitted)
    assert model.training
    if not fitted:
        with pytest.raises(RuntimeError, match="not been fitted"):
            model(given[0])


def test_factors_that_are_not_met_stay_as_they_were() -> None:
    model = Layers(dtype=torch.float64)
    model.unused, model.set = gn.ScaleFactor(7), gn.ScaleFactor(7)
    model.set.set(2.5)
    found = gn.fit_scale_factors(model, batches())
    assert len(found) == 3
    assert not model.unused.fitted
    assert model.set.scale_factor == 2.5
    assert model.set.fitted


def test_variances_are_accumulated_in_float64() -> None:
    # In float32 the variance about a mean of 1e4 over many rows loses digits.
    factor = gn.ScaleFactor(1)
    batch = torch.randn(20_000, 1) + 1e4
    found = gn.fit_scale_factors(nn.Sequential(factor), [batch])["0"]
    exact = float(batch.double().var()) ** -0.5
    assert found == pytest.approx(exact, rel=1e-7)
    assert factor.scale_factor.dtype == torch.float32


def test_there_must_be_something_to_fit() -> None:
    model = Layers(dtype=torch.float64)
    with refused("there are no batches to fit the scale factors on: give a few batches of the training set"):
        gn.fit_scale_factors(model, [])
    with refused("the batches hold no two rows for factors.2"):
        gn.fit_scale_factors(model, [features(1, CHANNELS), features(0, CHANNELS)])
    with refused("the model meets no ScaleFactor"):
        gn.fit_scale_factors(nn.Linear(CHANNELS, 2).double(), batches())
    with refused("variance of its input is nan"):
        gn.fit_scale_factors(model, [torch.full((3, CHANNELS), math.nan, dtype=torch.float64)])


# The layer


def test_a_fitted_factor_is_a_constant() -> None:
    factor = gn.ScaleFactor(4, dtype=torch.float64)
    factor.set(0.7)
    x = features(5, 4).requires_grad_()
    assert_equal(factor(x), 0.7 * x)
    assert_equal(factor(x, torch.zeros(0)), 0.7 * x)
    assert torch.autograd.gradgradcheck(factor, x)
    vectors = torch.randn(5, 4, dtype=torch.float64)
    d = o3.Irreps("1x0e+1x1o").D_from_matrix(o3.rand_matrix(dtype=torch.float64))
    assert_equal(factor(vectors @ d.T), factor(vectors) @ d.T)
    assert factor(x.half()).dtype == torch.float16
    assert factor(x[:0]).shape == (0, 4)
    assert not list(factor.parameters())
    assert repr(factor) == "ScaleFactor(4, scale_factor=0.7)"
    factor.reset_parameters()
    assert not factor.fitted
    assert factor.scale_factor.isnan()


def test_the_state_dict_carries_the_factor_and_that_it_is_fitted() -> None:
    given = batches()
    model = Layers(dtype=torch.float64)
    unfitted = copy.deepcopy(model.state_dict())
    gn.fit_scale_factors(model, given)
    other = Layers(dtype=torch.float64)
    other.load_state_dict(model.state_dict())
    model.eval()
    other.eval()
    assert_equal(other(given[0]), model(given[0]))
    assert_equal(copy.deepcopy(model)(given[0]), model(given[0]))
    with torch.device("meta"):
        empty = Layers(dtype=torch.float64)
    empty.load_state_dict(model.state_dict(), assign=True)
    assert_equal(empty.eval()(given[0]), model(given[0]))
    other.load_state_dict(unfitted)
    with pytest.raises(RuntimeError, match="not been fitted"):
        other(given[0])


def test_factors_are_read_by_name_from_a_mapping_or_a_json_file(tmp_path) -> None:
    model, other = Layers(dtype=torch.float64), Layers(dtype=torch.float64)
    found = gn.fit_scale_factors(model, batches())
    file = tmp_path / "scaling_factors.json"
    file.write_text(json.dumps({"comment": "fitted on a few batches", **found}))
    gn.load_scale_factors(other, file)
    assert [f.scale_factor for f in other.factors] == [f.scale_factor for f in model.factors]
    gn.load_scale_factors(other, {"factors.0": 2})
    assert other.factors[0].scale_factor == 2
    with refused(r"no scale factors named \['factors.7'\], it has \['factors.0', 'factors.1', 'factors.2'\]"):
        gn.load_scale_factors(other, {"factors.7": 1.0, "factors.0": 5.0})
    assert other.factors[0].scale_factor == 2
    for value in (0.0, -1.0, math.nan, math.inf):
        with refused("the scale factor is .*, expected a positive number"):
            gn.load_scale_factors(other, {"factors.0": value})


def test_features_that_do_not_fit_are_refused() -> None:
    factor = gn.ScaleFactor(CHANNELS)
    factor.set(1.0)
    with refused(r"y has shape \[3, 5\], expected \[rows, 4\]"):
        factor(torch.zeros(3, 5))
    with refused("y has dtype torch.int64"):
        factor(torch.zeros(3, 4, dtype=torch.long))
    with refused("channels is -1"):
        gn.ScaleFactor(-1)
