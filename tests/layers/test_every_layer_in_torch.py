"""Every layer inside the machinery of torch: the compiler, function transforms, other devices."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from layers.case import Case, derivatives
from layers.cases import CASES, every_layer, some_layers, tracks
from layers.peers import SIZES, assert_equal, ragged_batch
from torch import Tensor, nn

NODES = sum(SIZES)
TESTS = Path(__file__).parents[1]

# The compiler


def test_every_layer_compiles_into_one_graph_and_stays_the_same_function() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "layers.compiled"],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found) > len(CASES)
    wrong = {name: value for name, value in found.items() if isinstance(value, str) or not value < 1e-12}
    assert not wrong


# Function transforms


@every_layer
def test_jacobians_of_both_modes_are_those_of_autograd(case: Case) -> None:
    layer, (x, *rest), batch = case.make().eval(), case.inputs(6), torch.tensor([0, 0, 1, 3, 3, 3])

    def function(x: Tensor) -> Tensor:
        return case(layer, x, *rest, batch=batch, batch_size=4)

    expected = torch.autograd.functional.jacobian(function, x)
    assert_equal(torch.func.jacrev(function)(x), expected, "jacrev")
    assert_equal(torch.func.vmap(function)(torch.stack([x, 2 * x]))[1], function(2 * x), "vmap")
    columns = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    tangents = torch.func.vmap(lambda v: torch.func.jvp(function, (x,), (v,))[1])(columns)
    assert_equal(tangents.movedim(0, -1).reshape(expected.shape), expected, "jvp")


@some_layers(tracks)
def test_running_statistics_are_no_part_of_a_pure_function_as_in_torch(case: Case) -> None:
    layer, inputs = case.new(), case.inputs(6, torch.float32)
    with pytest.raises(RuntimeError, match="in-place"):
        torch.func.jacrev(nn.BatchNorm1d(4))(torch.randn(6, 4))
    with pytest.raises(RuntimeError, match="in-place"):
        torch.func.jacrev(lambda x: case(layer, x, *inputs[1:]))(inputs[0])


# Other devices


@every_layer
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_device_changes_nothing_but_rounding(case: Case) -> None:
    layer, inputs, batch = case.make().eval(), case.inputs(NODES), ragged_batch(shuffled=True)
    other = copy.deepcopy(layer).cuda()
    expected = derivatives(case, layer, inputs, batch, len(SIZES))
    given = derivatives(case, other, tuple(value.cuda() for value in inputs), batch.cuda(), len(SIZES))
    for name, value in expected.items():
        assert given[name].device.type == "cuda"
        assert_equal(given[name].cpu(), value, name, tolerance=1e-11)
