"""Every layer computes the same with the compiled kernels as with torch: result, gradients, double backward."""

import pytest
import torch
from layers.case import Case, derivatives
from layers.cases import every_layer
from layers.peers import assert_same, ragged_batch

from geonorm.kernels import choice, cpu

pytestmark = pytest.mark.skipif(cpu.kernels() is None, reason="the compiled kernels are not built")


@every_layer
@pytest.mark.parametrize("sizes", [(4, 0, 3, 5), (40, 300)], ids=str)
def test_the_compiled_kernels_compute_what_torch_computes(case: Case, sizes: tuple[int, ...]) -> None:
    found = {}
    for name in ("analytic", "cpu"):
        torch.manual_seed(0)
        layer = case.make()
        batch = ragged_batch(sizes)[torch.randperm(sum(sizes))]
        inputs = case.inputs(sum(sizes))
        with choice.using(name):
            found[name] = derivatives(case, layer, inputs, batch, len(sizes))
    assert_same(found["cpu"], found["analytic"], max(1e-12, 1e-15 * case.stretch))
