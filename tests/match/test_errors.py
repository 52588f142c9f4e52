"""Errors are zero for the layers that respect a symmetry, large for those that break it, and nan for no answer."""

import math

import pytest
import torch
from e3nn.nn import BatchNorm as E3nnBatchNorm
from torch import nn
from untyped import untyped

from geonorm import (
    BatchNorm,
    GraphNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    MeanSubtractionNorm,
    PairNorm,
    SetNorm,
    Standardize,
)
from geonorm.match import (
    invariance_error,
    node_permutation_error,
    relative_error,
    rotation_error,
    sample_dependence,
    sample_permutation_error,
)

ROUNDING = 1e-12
BROKEN = 1e-2
LEVELS = ("batch", "sample", "node")
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
IRREPS = "4x0e+2x0o+4x1o+2x1e+2x2e"


def unit_vectors(x):
    return x / x.norm(dim=-1, keepdim=True)


def batch_mean_subtracted(x):
    return x - x.mean(0)


def layer_norm_over_channels_and_components(factor):
    layer = nn.LayerNorm([4, 3]).double()
    return lambda x: factor * layer(x)


class TestRelativeError:
    def test_is_the_difference_over_the_sizes_whatever_the_unit(self) -> None:
        a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
        for unit in (1e-200, 1.0, 1e200):
            assert relative_error(unit * a.double(), unit * b.double()) == pytest.approx(5 / 7)
        assert relative_error(a, a) == 0
        assert relative_error(a, -a) == 1

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
    def test_of_degenerate_outputs_is_nan_and_passes_no_bound(self, bad: float) -> None:
        y = torch.full((2, 3), bad)
        error = relative_error(y, y)
        assert math.isnan(error)
        assert not error < ROUNDING
        assert not error > BROKEN


class TestRotationError:
    @pytest.mark.parametrize(
        ("layer", "respected"),
        [
            (BatchNorm(12), ()),
            (LayerNorm(12), ()),
            (LayerNorm(12, mode="node"), ()),
            (GraphNorm(12), ()),
            (InstanceNorm(12), ()),
            (GroupNorm(12, 2), ()),
            (PairNorm(12), ("batch", "sample")),
            (PairNorm(12, scale_individually=True), ("batch", "sample")),
            (MeanSubtractionNorm(12), ("batch", "sample")),
            (batch_mean_subtracted, ("batch",)),
            (nn.Identity(), LEVELS),
        ],
        ids=lambda value: repr(value) if isinstance(value, nn.Module) else None,
    )
    def test_naive_columns_are_respected_at_these_levels_and_no_others(self, layer, respected) -> None:
        x = torch.randn(9, 12)
        for level in LEVELS:
            error = rotation_error(layer, x, BATCH, level=level)
            assert error < ROUNDING if level in respected else error > BROKEN, level

    @pytest.mark.parametrize(
        ("axes", "level"),
        [
            ({"mean": "bx", "scale": "bxm"}, "node"),
            ({"mean": None, "scale": "vm"}, "node"),
            ({"mean": None, "scale": "xvtm", "statistic": "rms"}, "node"),
            ({"mean": "x", "mean_on": "all", "scale": "xm"}, "sample"),
            ({"mean": "bx", "mean_on": "all", "scale": "bxm", "level": "batch"}, "batch"),
        ],
    )
    def test_legal_standardization_of_irreps_is_respected_up_to_its_level(self, axes, level: str) -> None:
        layer = Standardize(IRREPS, **axes)
        nn.init.uniform_(layer.weight)
        x = torch.randn(9, layer.fields.dim)
        for other in LEVELS:
            error = rotation_error(layer, x, BATCH, irreps=IRREPS, level=other)
            assert error < ROUNDING if LEVELS.index(other) <= LEVELS.index(level) else error > BROKEN, other

    def test_a_running_batch_mean_vector_is_broken_in_eval_by_one_rotation_for_all(self) -> None:
        mean = torch.randn(4, 3, dtype=torch.float64)
        assert rotation_error(lambda x: x - mean, torch.randn(9, 4, 3), BATCH, level="batch") > BROKEN

    def test_a_pseudoscalar_bias_is_seen_by_improper_elements_only(self) -> None:
        x = torch.randn(9, 4)
        for seed in range(20):
            assert rotation_error(lambda x: x + 1, x, BATCH, irreps="4x0o", improper=False, seed=seed) < ROUNDING
            for level in LEVELS:
                assert rotation_error(lambda x: x + 1, x, BATCH, irreps="4x0o", level=level, seed=seed) > BROKEN

    def test_inputs_and_outputs_may_be_different_irreps(self) -> None:
        x = torch.randn(9, 4, 3)
        assert rotation_error(lambda x: x.norm(dim=2), x, BATCH, irreps_out="4x0e") < ROUNDING
        assert rotation_error(lambda x: x[..., 0], x, BATCH, irreps_out="4x0e") > BROKEN
        cross = lambda x: torch.linalg.cross(x[:, :2], x[:, 2:], dim=2).flatten(1)  # noqa: E731
        assert rotation_error(cross, x, BATCH, irreps_out="2x1e") < ROUNDING
        assert rotation_error(cross, x, BATCH, irreps_out="2x1o", improper=False) < ROUNDING
        assert rotation_error(cross, x, BATCH, irreps_out="2x1o") > BROKEN

    def test_layers_that_other_testers_get_wrong(self) -> None:
        x = torch.randn(9, 4, 3)
        assert math.isnan(rotation_error(lambda x: x * float("nan"), x, BATCH))
        assert math.isnan(rotation_error(lambda x: 0 * x, x, BATCH))
        assert rotation_error(unit_vectors, x, BATCH, level="node") < ROUNDING
        assert rotation_error(lambda x: 1e5 * x, x, BATCH, level="node") < ROUNDING
        whole = rotation_error(layer_norm_over_channels_and_components(1), x, BATCH)
        assert whole > BROKEN
        assert rotation_error(layer_norm_over_channels_and_components(1e-4), x, BATCH) == pytest.approx(whole)

    def test_agrees_with_a_published_equivariant_layer(self) -> None:
        layer, x = E3nnBatchNorm("4x0e+4x1o"), torch.randn(9, 16)
        for training in (True, False):
            assert rotation_error(layer, x, irreps="4x0e+4x1o", level="node", training=training) < ROUNDING

    def test_a_verdict_does_not_depend_on_the_seed(self) -> None:
        x = torch.randn(9, 12)
        errors = [rotation_error(BatchNorm(12), x, BATCH, level="batch", seed=seed) for seed in range(50)]
        assert min(errors) > BROKEN
        assert max(rotation_error(PairNorm(12), x, BATCH, seed=seed) for seed in range(50)) < ROUNDING


class TestPermutations:
    @pytest.mark.parametrize("layer", [BatchNorm(8), GraphNorm(8), SetNorm(8), PairNorm(8)], ids=repr)
    def test_are_respected_by_the_layers_of_the_table(self, layer) -> None:
        x = torch.randn(9, 8)
        for batch in (BATCH, BATCH[torch.randperm(9)]):
            assert node_permutation_error(layer, x, batch) < ROUNDING
            assert sample_permutation_error(layer, x, batch) < ROUNDING

    def test_find_a_layer_that_depends_on_the_order_of_nodes(self) -> None:
        x = torch.randn(9, 8)
        numbered = lambda x: x * torch.arange(1.0, 10.0, dtype=x.dtype)[:, None]  # noqa: E731
        assert all(node_permutation_error(numbered, x, BATCH, seed=seed) > BROKEN for seed in range(50))

    def test_find_a_layer_that_depends_on_the_number_of_the_sample(self) -> None:
        x = torch.randn(9, 8)
        numbered = lambda x, batch: x * (1 + batch)[:, None]  # noqa: E731
        assert node_permutation_error(numbered, x, BATCH) == 0
        assert all(sample_permutation_error(numbered, x, BATCH, seed=seed) > BROKEN for seed in range(50))

    def test_find_the_printed_axes_that_pool_over_node_numbers(self) -> None:
        batch = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])

        def set_norm_as_printed(x):
            dense = x.reshape(2, 4, -1)
            return (dense - dense.mean((0, 2), keepdim=True)).reshape(x.shape)

        assert node_permutation_error(set_norm_as_printed, torch.randn(8, 5), batch) > BROKEN

    def test_of_a_degenerate_layer_are_nan(self) -> None:
        assert math.isnan(node_permutation_error(lambda x: 0 * x, torch.randn(9, 8), BATCH))


class TestSampleDependence:
    @pytest.mark.parametrize("layer", [GraphNorm(8), LayerNorm(8), PairNorm(8), InstanceNorm(8)], ids=repr)
    def test_is_exactly_zero_where_statistics_stay_in_the_sample(self, layer) -> None:
        assert sample_dependence(layer, torch.randn(9, 8), BATCH) == 0

    def test_is_found_in_batch_norm_in_training_and_gone_in_eval(self) -> None:
        x = torch.randn(9, 8)
        assert all(sample_dependence(BatchNorm(8), x, BATCH, seed=seed) > BROKEN for seed in range(50))
        assert sample_dependence(BatchNorm(8), x, BATCH, training=False) == 0

    def test_ignores_samples_whose_output_is_rightly_zero(self) -> None:
        batch = torch.tensor([0, 1, 1, 1])
        assert sample_dependence(MeanSubtractionNorm(8), torch.randn(4, 8), batch) == 0
        assert math.isnan(sample_dependence(lambda x, b: 0 * x, torch.randn(4, 8), batch))

    def test_needs_two_samples(self) -> None:
        with pytest.raises(ValueError, match="expected two or more"):
            sample_dependence(BatchNorm(8), torch.randn(4, 8))


class TestInvarianceError:
    @pytest.mark.parametrize(
        ("layer", "kind", "per", "invariant"),
        [
            (MeanSubtractionNorm(8), "shift", ("sample", "channel"), True),
            (MeanSubtractionNorm(8), "shift", ("node",), False),
            (MeanSubtractionNorm(8), "scale", (), False),
            (LayerNorm(8, eps=0.0), "scale", ("sample",), True),
            (LayerNorm(8, eps=0.0), "scale", ("channel",), False),
            (GroupNorm(8, 2, eps=0.0), "scale", ("sample", "group"), True),
        ],
    )
    def test_of_finite_shifts_and_scales(self, layer, kind, per, invariant: bool) -> None:
        error = invariance_error(layer, torch.randn(9, 8), BATCH, kind=kind, per=per, groups=2)
        assert error < ROUNDING if invariant else error > BROKEN

    def test_refuses_an_unknown_kind(self) -> None:
        with untyped(), pytest.raises(ValueError, match="'shift' or 'scale'"):
            invariance_error(LayerNorm(8), torch.randn(9, 8), BATCH, kind="twist")


class TestReadouts:
    """Outputs with one row for each sample, where a batch may number its samples in any order and leave one out."""

    batch = torch.tensor([2, 0, 0, 2, 2, 0, 3, 3, 0])
    x = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    @staticmethod
    def sums(x, batch, batch_size):
        return x.new_zeros(batch_size, *x.shape[1:]).index_add(0, batch, x)

    def test_follow_the_samples_and_not_the_order_of_their_nodes(self) -> None:
        assert node_permutation_error(self.sums, self.x, self.batch, 4) < ROUNDING
        assert sample_permutation_error(self.sums, self.x, self.batch, 4) < ROUNDING
        assert sample_dependence(self.sums, self.x, self.batch, 4) == 0

    def test_turn_with_their_sample(self) -> None:
        assert rotation_error(self.sums, self.x, self.batch, 4) < ROUNDING
        lengths = lambda x, batch, n: self.sums(x, batch, n).norm(dim=2)  # noqa: E731
        assert rotation_error(lengths, self.x, self.batch, 4, irreps_out="4x0e") < ROUNDING
        assert rotation_error(lengths, self.x, self.batch, 4, irreps_out="1x0e+1x1o") > BROKEN

    def test_that_break_a_symmetry_are_found(self) -> None:
        firsts = lambda x, batch, n: torch.stack([x[torch.nonzero(batch == s)[:1, 0]].sum(0) for s in range(n)])  # noqa: E731
        assert node_permutation_error(firsts, self.x, self.batch, 4) > BROKEN
        numbered = lambda x, batch, n: self.sums(x, batch, n) * torch.arange(1.0, n + 1).reshape(-1, 1, 1)  # noqa: E731
        assert sample_permutation_error(numbered, self.x, self.batch, 4) > BROKEN
        centred = lambda x, batch, n: self.sums(x, batch, n) - x.mean(0)  # noqa: E731
        assert sample_dependence(centred, self.x, self.batch, 4) > BROKEN


def test_improper_elements_alone_are_no_rotations() -> None:
    x = torch.randn(9, 4)
    errors = {kind: rotation_error(lambda x: x + 1, x, BATCH, irreps="4x0o", improper=kind) for kind in (True, "only")}
    assert errors[True] == errors["only"] > BROKEN
    # Whichever of the two a layer breaks more, both together find it.
    x, larger = torch.randn(9, 12, generator=torch.Generator().manual_seed(0)), set()
    for seed in range(8):
        proper, improper, both = (
            rotation_error(BatchNorm(12), x, BATCH, improper=kind, seed=seed) for kind in (False, "only", True)
        )
        assert both == max(proper, improper)
        larger.add(proper > improper)
    assert larger == {True, False}
