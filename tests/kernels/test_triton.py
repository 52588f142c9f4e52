"""The kernels of Triton, in its interpreter: any shape, short pools and long ones, the same numbers as torch."""

import copy
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from kernels.conftest import needs_triton
from kernels.test_cpu import derivatives, features, layers, prepared
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import geonorm as gn
from geonorm.kernels import choice, cpu

pytestmark = needs_triton

#: An empty sample between others, one node alone, and one of several blocks.
SIZES = (3, 0, 1, 20)
SORTED = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
SHUFFLED = SORTED[torch.randperm(len(SORTED), generator=torch.Generator().manual_seed(0))]
CHANNELS = 9
every_layer = pytest.mark.parametrize("name", layers())


@pytest.fixture(autouse=True)
def implementation() -> Iterator[None]:
    """The tests choose for themselves; numbers that are not finite are no surprise to the interpreter."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def parts_of_seven_rows(monkeypatch) -> None:
    """Pools of more than seven rows are long."""
    from geonorm.kernels.triton import batch, launch

    monkeypatch.setattr(batch, "LONG", 7)
    monkeypatch.setattr(launch, "LONG", 7)


def both(function, *arguments) -> tuple:
    """What a function returns with torch and with the kernels."""
    results = []
    for which in ("triton", "analytic"):
        with choice.using(which):
            results.append(function(*arguments))
    return tuple(results)


def assert_same(name: str, x: Tensor, batch: Tensor, tolerance: float = 1e-12) -> None:
    layer = prepared(name, torch.float64 if x.dtype == torch.float64 else torch.float32, x.shape[1])
    found, expected = both(derivatives, layer, x, batch, int(batch.max()) + 1)
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        error = float((one - other).detach().abs().max() / other.detach().abs().max().clamp(min=1))
        assert error <= tolerance, f"{name}, value {place}: {error:.1e}"


@every_layer
def test_result_and_derivatives_are_those_of_torch(name):
    assert_same(name, features(nodes=len(SHUFFLED)), SHUFFLED)


@pytest.mark.usefixtures("parts_of_seven_rows")
@pytest.mark.parametrize("name", ["graph", "batch", "mean alone", "own of rows"])
def test_long_pools_in_parts_give_the_same(name):
    assert_same(name, features(nodes=24), torch.arange(24).remainder(4).clamp(max=1) * 2)


@pytest.mark.parametrize(
    ("name", "channels"), [("graph", 7), ("graph", 131), ("row", 70), ("irreps", 70), ("own of rows", 130)]
)
def test_any_number_of_columns_is_right(name, channels):
    narrow = channels % 2 == 1
    x = features(channels, torch.float32 if narrow else torch.float64, nodes=5)
    assert_same(name, x, torch.arange(5) // 4, 2e-4 if narrow else 1e-12)


@pytest.mark.parametrize("groups", [2, 22], ids=["few groups in wide tiles", "many groups in narrow tiles"])
def test_groups_of_columns_are_right(groups):
    layer = gn.Standardize(88, mean="xv", scale="xv", channel_groups=groups, learn_alpha=True).double()
    x, batch = features(88, nodes=6), torch.tensor([0, 1, 0, 1, 1, 1])
    for one, other in zip(*both(derivatives, layer, x, batch, 2), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_the_order_of_a_batch_is_found_once_and_again_when_the_batch_changes():
    from geonorm.kernels.triton.batch import Rows, _known

    batch, before = torch.tensor([2, 0, 2, 0, 0]), len(_known)
    rows = Rows._remembered(batch, 4, 0)
    assert rows.order.tolist() == [1, 3, 4, 0, 2]
    assert rows.ptr.tolist() == [0, 3, 3, 5, 5]
    assert Rows._remembered(batch, 4, 0) is rows
    assert Rows._remembered(batch, 4, 1) is not rows, "another stream would not wait for the first one"
    assert Rows._remembered(batch, 3, 0).ptr.tolist() == [0, 3, 3, 5]
    batch[0] = 1
    assert Rows._remembered(batch, 4, 0).ptr.tolist() == [0, 3, 4, 5, 5]
    with pytest.raises(RuntimeError):
        Rows._remembered(torch.tensor([0, 4]), 4, 0)
    del batch, rows
    assert len(_known) <= before + 1


@pytest.mark.usefixtures("parts_of_seven_rows")
def test_parts_cover_every_row_once_and_there_may_be_more_of_them():
    from geonorm.kernels.triton.batch import Rows

    rows = Rows.of_batch(torch.repeat_interleave(torch.arange(5), torch.tensor([0, 15, 1, 0, 0])), 5)
    first, pool = rows.parts
    assert first.tolist() == [0, 0, 3, 4, 4, 4]
    assert pool.tolist() == [1, 1, 1, 2, 4, 4, 4, 4]
    assert rows.num_parts == 8


def test_tiles_hold_whole_groups():
    from geonorm.kernels.triton.recipe import tiles_of

    fields, halves = tuple(column // 3 for column in range(100)), tuple(column // 50 for column in range(100))
    assert [len(tile) for tile in tiles_of([None, tuple(range(100))], [0, 100], 100, 64)] == [64, 36]
    for tile in tiles_of([None, fields], [0, 34], 100, 32):
        assert len(tile) <= 32
        assert all(column // 3 in {other // 3 for other in tile} for column in tile)
    assert [len(tile) for tile in tiles_of([fields, halves], [34, 2], 100, 32)] == [100], "17 lies in both halves"
    # A column without a group binds nobody.
    assert len(tiles_of([(0,) * 5 + (1,) * 95, None], [1, 0], 100, 32)) == 4


def test_the_gradient_of_the_gradient_agrees_with_finite_differences():
    layer = gn.Standardize(2, mean="x", scale="xv", statistic="own", learn_alpha=True, eps=0.05).double()
    x, names = features(2, nodes=5).requires_grad_(), [key for key, _ in layer.named_parameters()]

    def function(x: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, given, (x, torch.tensor([0, 1, 0, 1, 0]), 2))

    with choice.using("triton"):
        assert gradcheck(function, (x, *layer.parameters()), fast_mode=True)
        assert gradgradcheck(function, (x, *layer.parameters()), fast_mode=True)


# What inputs may be


@pytest.mark.parametrize("sizes", [(4,) * 3, (65, 1), (3000,)], ids=str)
def test_far_from_zero_the_error_is_of_the_size_of_the_rounding_of_the_input(sizes):
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    x = (torch.randn(len(batch), CHANNELS, dtype=torch.float64) + 1e4).float()
    layer = gn.InstanceNorm(CHANNELS)
    with choice.using("triton"):
        y = layer(x, batch, len(sizes))
    with choice.using("analytic"):
        exact = layer(x.double(), batch, len(sizes))
    spread = torch.stack([x[batch == k].double().std(0, correction=0) for k in range(len(sizes))])
    error = ((y - exact) * (spread.square() + layer.eps).sqrt()[batch]).abs().max()
    assert error < 6 * 1e4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["whole graph", "row", "irreps"])
def test_what_is_not_a_number_spreads_as_in_torch(name, bad):
    def orders(place: str) -> list[Tensor]:
        torch.manual_seed(0)
        x, g = features(nodes=6), torch.ones(6, CHANNELS, dtype=torch.float64)
        (x if place == "x" else g)[4, 2] = bad
        x.requires_grad_()
        y = layer(x, torch.arange(6) // 3, 2)
        (first,) = torch.autograd.grad(y, x, g, create_graph=True)
        return [y, first, *torch.autograd.grad(first.square().sum(), x, allow_unused=True, materialize_grads=True)]

    layer = prepared(name)
    for place in ("x", "g"):
        for one, other in zip(*both(orders, place), strict=True):
            assert torch.equal(one.isfinite(), other.isfinite())


@pytest.mark.parametrize("name", ["graph", "row", "batch", "mean alone", "irreps"])
def test_nothing_at_all_is_standardized_without_complaint(name):
    layer, nothing = prepared(name), torch.zeros(0, CHANNELS, dtype=torch.float64)
    for samples in (0, 2):
        results = both(derivatives, layer, nothing, torch.zeros(0, dtype=torch.long), samples)
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)


def test_views_of_any_stride_are_read_right():
    layer, wide = prepared("graph"), features(2 * CHANNELS, nodes=8)
    batch = torch.arange(8) // 5
    with choice.using("triton"):
        for x in (wide[:, ::2], wide.t()[:CHANNELS].t()):
            found, expected = (derivatives(layer, value, batch, 2) for value in (x, x.contiguous()))
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_running_statistics_are_those_of_torch():
    layer, x = gn.BatchNorm(CHANNELS), features(dtype=torch.float32, nodes=50)
    batch = torch.arange(50) // 20

    def updated() -> list[Tensor]:
        copied = copy.deepcopy(layer).train()
        copied(x, batch, 3)
        return [*copied.buffers(), copied.eval()(x, batch, 3)]

    for one, other in zip(*both(updated), strict=True):
        torch.testing.assert_close(one, other)


def test_numbers_of_samples_that_do_not_exist_are_refused():
    with choice.using("triton"):
        for batch, samples, words in (([0, 5, 1], 3, "batch_size is 3"), ([-1, 0, 1], 3, "sample number -1")):
            with pytest.raises(ValueError, match=words):
                gn.GraphNorm(4)(torch.randn(3, 4), torch.tensor(batch), samples)


# When kernels compute, and when they leave it to torch


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The kernels that are called, in their order."""
    from geonorm.kernels.triton import launch

    called = []
    for name in ("forward", "backward", "double_backward"):
        original = getattr(launch, name)

        def recorded(*arguments, original=original, name=name):
            called.append(name)
            return original(*arguments)

        monkeypatch.setattr(launch, name, recorded)
    return called


def test_the_three_orders_are_three_calls(calls):
    layer, x, batch = prepared("graph"), features(nodes=4), torch.tensor([0, 0, 1, 1])
    with choice.using("triton"):
        derivatives(layer, x, batch, 2)
    assert calls == ["forward", "backward", "double_backward"]
    calls.clear()
    with choice.using("analytic"):
        derivatives(layer, x, batch, 2)
    assert calls == []


def test_transforms_of_functions_and_third_derivatives_are_left_to_torch(calls):
    layer, x, batch = prepared("graph"), features(3, nodes=4), torch.tensor([0, 0, 1, 1])
    layer = gn.GraphNorm(3, eps=0.1).double()

    def function(x: Tensor) -> Tensor:
        return layer(x, batch, 2)

    def third(x: Tensor) -> list[Tensor]:
        value, found = function(x.requires_grad_()).pow(3).sum(), []
        for _ in range(3):
            (gradient,) = torch.autograd.grad(value, x, create_graph=True)
            found.append(gradient)
            value = (gradient * torch.cos(torch.arange(gradient.numel())).view_as(gradient)).sum()
        return found

    with choice.using("analytic"):
        jacobian, expected = torch.func.jacrev(function)(x), third(x.clone())
    with choice.using("triton"):
        torch.testing.assert_close(torch.func.jacrev(function)(x), jacobian)
        torch.testing.assert_close(torch.func.jacfwd(function)(x), jacobian)
        assert calls == []
        for one, other in zip(third(x.clone()), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


# Which device, and whether to trust it


def test_a_batch_of_the_device_is_compared_with_torch_before_kernels_are_used(monkeypatch):
    from geonorm.kernels.triton import check, launch

    device = torch.device("cpu")
    assert check.failure(device) is None
    original = launch.double_backward
    monkeypatch.setattr(launch, "double_backward", lambda *arguments: tuple(2 * v for v in original(*arguments)))
    assert "of a small batch differs by" in check.failure(device)

    def breaks(*_: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(launch, "forward", breaks)
    assert check.failure(device) == "RuntimeError: no compiler"


def test_a_device_that_computes_something_else_is_not_trusted_and_says_so_once(monkeypatch):
    from geonorm.kernels.triton import check

    device = torch.device("cuda", 7)
    monkeypatch.setattr(check, "failure", lambda _: "it is on fire")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    choice._trusted.cache_clear()
    with choice.using("auto"):
        with pytest.warns(UserWarning, match="are not used on cuda:7, plain torch computes instead: it is on fire"):
            assert choice.kernels(device) is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert choice.kernels(device) is None
    monkeypatch.setattr(check, "failure", lambda _: None)
    choice._trusted.cache_clear()
    with choice.using("auto"):
        assert choice.kernels(device).__name__ == "geonorm.kernels.triton.launch"
        assert choice.kernels(torch.device("meta")) is None
    with choice.using("cpu" if cpu.kernels() else "analytic"):
        assert choice.kernels(device) is None
    choice._trusted.cache_clear()


def test_it_says_what_is_in_use():
    with choice.using("triton"):
        assert choice.in_use() == "triton"
    with choice.using("analytic"):
        assert choice.in_use() == choice.in_use("meta") == "analytic"


def test_the_library_does_not_import_triton_and_works_without_it():
    code = """
import sys
sys.modules["triton"] = None  # cannot be imported
import torch, geonorm as gn
from geonorm.kernels import choice
gn.GraphNorm(4)(torch.randn(6, 4), torch.arange(6) // 3)
print(choice.kernels(torch.device("cuda", 0)))
try:
    choice.using("triton").__enter__()
except RuntimeError as error:
    print(error)
"""
    environment = {key: value for key, value in os.environ.items() if key != choice.VARIABLE}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    first, second = done.stdout.splitlines()
    assert first == "None", done.stderr
    assert "Triton cannot be imported: install it" in second
    done = subprocess.run(
        [sys.executable, "-c", "import sys, geonorm; print('triton' in sys.modules)"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.strip() == "False", done.stderr


# The compiler


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_every_kernel_compiles_for_devices_that_are_not_there(tmp_path):
    script = Path(__file__).with_name("compile_triton.py")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRITON_")}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [kernel["target"] for kernel in found] == [90] * 19 + [80] * 3
    for kernel in found:
        assert kernel["bytes"] > 0
        assert kernel["for"]
        assert not kernel["atomic"], "sums in the order of arrival differ from run to run"
