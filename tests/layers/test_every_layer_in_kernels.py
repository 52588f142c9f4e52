"""Which layers the compiled kernels compute: every one that divides by a statistic, in all three orders."""

import pytest
from layers.case import Case, derivatives
from layers.cases import every_layer
from layers.peers import SIZES, ragged_batch

from geonorm.kernels import choice, cpu

pytestmark = pytest.mark.skipif(not cpu.kernels(), reason="no compiled kernels: there was no compiler")
ORDERS = ("forward", "backward", "double_backward")
#: What needs no statistic of the features: constants, counts, weights.
WITHOUT = (
    "AverageNeighborNorm", "DensityNorm", "DynamicTanh", "GraphSizeNorm", "NeighborNorm", "PerTypeScaleShift",
    "ScaleFactor", "scaled_weight_standardization", "spectral_norm", "weight_norm", "source='constant'",
    "source='count'",
)  # fmt: skip
#: Whose statistic is no mean of rows or columns: the largest and the smallest length, the length of a message beside
#: that of a feature, the components of tensors, lengths about their mean.
OTHER = ("MaxMinNorm", "MessageNorm", "TensorNorm", "center_magnitude=True")


@every_layer
def test_a_statistic_is_computed_by_the_kernels_in_all_orders(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    called = set()

    def watched(order):
        compute = getattr(cpu, order)
        return lambda *arguments: (called.add(order), compute(*arguments))[1]

    for order in ORDERS:
        monkeypatch.setattr(cpu, order, watched(order))
    with choice.using("cpu"):
        derivatives(case, case.make().train(), case.inputs(sum(SIZES)), ragged_batch(), len(SIZES))
    exempt = any(name in case.representation for name in (*WITHOUT, *OTHER))
    assert called == (set() if exempt else set(ORDERS))
