"""Final errors over seeds: medians, geometric means, intervals, and runs that are lost in no mean."""

import math

import numpy as np
import pytest
from scipy import stats

from geonorm.experiments.summary import final_errors


def runs(errors: dict[str, list[list[float]]]) -> list[dict]:
    """One run for each list of errors by epoch."""
    return [
        {"normalization": name, "seed": seed, "epoch": epoch, "target": "energy", "error": error}
        for name, curves in errors.items()
        for seed, curve in enumerate(curves)
        for epoch, error in enumerate(curve)
    ]


def test_the_median_of_the_last_epochs_and_the_geometric_mean_over_seeds():
    records = runs({"a": [[9, 1, 5, 3], [9, 12, 27, 400]], "b": [[1, 1, 1, 1], [1, 1, 1, 1]]})
    found = final_errors(records, "error", last=3)
    assert [*found] == ["a", "b"]
    assert found["a"].values == {0: 3, 1: 27}
    assert found["a"].mean == pytest.approx(9)
    assert (found["a"].smallest, found["a"].largest) == (3, 27)
    assert final_errors(records, "error")["a"].mean == pytest.approx(math.sqrt(3 * 400))


def test_the_interval_is_that_of_a_test_on_logarithms():
    values = [2.0, 3.0, 5.0, 4.0]
    (found,) = final_errors(runs({"a": [[value] for value in values]}), "error").values()
    expected = stats.ttest_1samp(np.log(values), 0).confidence_interval(0.9)
    assert found.interval(0.9) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    low, high = found.interval()
    assert low < found.interval(0.9)[0] < found.mean < found.interval(0.9)[1] < high


def test_an_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for draw in np.exp(rng.normal(1.0, 0.5, size=(400, 3))):
        (found,) = final_errors(runs({"a": [[value] for value in draw]}), "error").values()
        low, high = found.interval(0.8)
        held += low < math.exp(1.0) < high
    assert held / 400 == pytest.approx(0.8, abs=0.06)


def test_one_run_has_no_interval_and_far_ones_an_endless_one():
    one = final_errors(runs({"a": [[2.0]]}), "error")["a"]
    assert one.mean == 2.0
    assert all(math.isnan(end) for end in one.interval())
    two = final_errors(runs({"a": [[1e-100], [1e100]]}), "error")["a"]
    assert two.interval()[1] == math.inf
    assert two.interval()[0] == 0


def test_runs_that_are_not_finite_are_named_and_in_no_mean():
    records = runs({"a": [[1, 2], [1, math.nan], [1, 8]], "b": [[1, math.inf]], "c": [[math.nan, 3]]})
    found = final_errors(records, "error")
    assert found["a"].not_finite == (1,)
    assert found["a"].mean == pytest.approx(4)
    assert found["b"].not_finite == (0,)
    assert math.isnan(found["b"].mean)
    assert math.isnan(found["b"].largest)
    # What was lost on the way and came back is finite at the end, unless the way is asked for too.
    assert found["c"].not_finite == ()
    assert final_errors(records, "error", last=2)["c"].not_finite == (0,)


def test_variants_of_several_columns():
    records = [{**record, "target": target} for target in ("x", "y") for record in runs({"a": [[1]], "b": [[2]]})]
    found = final_errors(records, "error", by=("target", "normalization"))
    assert [*found] == [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")]


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], {}, "got 0 records"),
        (runs({"a": [[1]]}), {"last": 0}, "last=0"),
        (runs({"a": [[1]]}), {"column": "loss"}, "no column loss; there are normalization, seed"),
        (runs({"a": [[1]]}), {"by": ("activation",)}, "no column activation"),
        (runs({"a": [[1, 1], [1]]}), {}, r"seed 1 ends at epoch 0 and others at 1"),
        (runs({"a": [[0.0]]}), {}, "is 0.0, expected positive"),
    ],
)
def test_what_cannot_be_summed_up_is_refused(records, options, message):
    with pytest.raises(ValueError, match=message):
        final_errors(records, **{"column": "error", **options})
