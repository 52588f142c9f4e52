"""The compiled kernels: every instruction set, any number of threads, any shape, the same numbers as torch."""

import copy
import ctypes
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernels.conftest import needs_compiled
from torch import Tensor
from untyped import untyped

import geonorm as gn
from geonorm.kernels import choice, cpu, fused
from geonorm.kernels.cpu import calls as calls_of_kernels
from geonorm.kernels.cpu import library, recipes

pytestmark = needs_compiled

#: Empty samples at both ends and in the middle, one that takes several blocks, many short ones.
SIZES = (0, 3, 5, 0, 700, 1, 1, 7, 4, 0, 9, 2, 6, 0, 0)
SORTED = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
SHUFFLED = SORTED[torch.randperm(len(SORTED), generator=torch.Generator().manual_seed(0))]
BATCHES = {"sorted": SORTED, "shuffled": SHUFFLED}
CHANNELS = 9


@pytest.fixture(autouse=True)
def implementation() -> None:
    """The tests choose for themselves."""


def layers(channels: int = CHANNELS) -> dict[str, gn.Standardize]:
    """What the kernels must know: every way to know the sum of w, every kind of groups, of rows and of statistics."""
    return {
        "graph": gn.GraphNorm(channels),
        "whole graph": gn.LayerNorm(channels),
        "row": gn.LayerNorm(channels, mode="node"),
        "row without mean": gn.RMSNorm(channels),
        "pairs": gn.PairNorm(channels, scale=1.5),
        "batch": gn.BatchNorm(channels, track_running_stats=False),
        "mean alone": gn.Standardize(channels, mean="x", scale=None, learn_alpha=True),
        "own": gn.Standardize(channels, mean=None, scale="x", statistic="own"),
        "own of rows": gn.Standardize(channels, mean="x", scale="xv", statistic="own", learn_alpha=True),
        "sum of w": gn.Standardize(channels, mean="xv", scale="x", learn_alpha=True),
        "exponents": gn.Standardize(channels, mean="x", scale="xv", exponent=0.5, learn_exponent=True),
        "irreps": gn.Standardize(f"{channels - 6}x0e+2x1o", mean="x", scale="xm", exponent=0.5, learn_exponent=True),
        "irreps of rows": gn.EquivariantLayerNorm(f"{channels - 6}x0e+2x1o"),
        "irreps by degree": gn.SeparableLayerNorm(f"{channels - 6}x0e+2x1o"),
    }


every_layer = pytest.mark.parametrize("name", layers())


def prepared(name: str, dtype: torch.dtype = torch.float64, channels: int = CHANNELS) -> gn.Standardize:
    layer = layers(channels)[name].to(dtype)
    layer.eps = 0.05  # a node alone in its sample has no spread, and with a tiny eps derivatives of any size
    for parameter in layer.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def derivatives(layer: gn.Standardize, x: Tensor, batch: Tensor, samples: int = len(SIZES)) -> list[Tensor]:
    """Output, gradients, and the gradients of a function of all of them."""
    x, g = x.clone().requires_grad_(), torch.cos(torch.arange(x.numel())).view_as(x).to(x.dtype).requires_grad_()
    inputs = [x, *layer.parameters()]
    y = layer(x, batch, samples)
    first = torch.autograd.grad(y, inputs, g, create_graph=True)
    loss = sum((value * torch.sin(torch.arange(value.numel())).view_as(value)).sum() for value in first)
    loss = loss + sum(value.square().sum() for value in first)
    return [y, *first, *torch.autograd.grad(loss, [g, *inputs], materialize_grads=True)]


def features(channels: int = CHANNELS, dtype: torch.dtype = torch.float64, nodes: int = len(SORTED)) -> Tensor:
    return (torch.randn(nodes, channels, dtype=torch.float64) + 0.7).to(dtype)


def assert_same(name: str, x: Tensor, batch: Tensor, tolerance: float = 1e-12) -> None:
    layer = prepared(name, torch.float64 if x.dtype == torch.float64 else torch.float32, x.shape[1])
    with choice.using("analytic"):
        expected = derivatives(layer, x, batch)
    with choice.using("cpu"):
        found = derivatives(layer, x, batch)
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        error = float((one - other).detach().abs().max() / other.detach().abs().max().clamp(min=1))
        assert error <= tolerance, f"{name}, value {place}: {error:.1e}"


@every_layer
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_result_and_derivatives_are_those_of_torch(name, batch):
    assert_same(name, features(), batch)


@every_layer
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_number_of_threads_changes_nothing(name, threads, monkeypatch):
    monkeypatch.setattr(calls_of_kernels, "PARALLEL", 1)
    monkeypatch.setattr(calls_of_kernels, "SHARE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for batch in BATCHES.values():
        assert_same(name, features(), batch)
    # A sample that reaches over several threads.
    assert_same(name, features(nodes=40), torch.tensor([2]).repeat(40))
    # More threads than nodes.
    assert_same(name, features(nodes=2), torch.tensor([0, 3]))


@every_layer
@pytest.mark.parametrize("instructions", cpu.SETS)
def test_each_instruction_set_gives_the_same(name, instructions, monkeypatch):
    has = {"AVX2": 1, "AVX512": 2}.get(torch.backends.cpu.get_cpu_capability(), 0)
    if cpu.SETS.index(instructions) > has or cpu.kernels(instructions) is None:
        pytest.skip(f"this processor does not know {instructions}, or the compiler did not")
    use = cpu.kernels(instructions)
    monkeypatch.setattr(library, "kernels", lambda: use)
    assert_same(name, features(), SHUFFLED)
    assert_same(name, features(dtype=torch.bfloat16)[SORTED != 4], SORTED[SORTED != 4], 0.02)


@pytest.mark.parametrize("channels", [7, 8, 15, 16, 17, 33, 64, 70, 128, 131])
@pytest.mark.parametrize("name", ["graph", "row", "own of rows", "irreps"])
def test_any_number_of_columns_is_right(name, channels):
    assert_same(name, features(channels, nodes=40), torch.arange(40) // 13)
    narrow = features(channels, torch.float32, nodes=40)
    assert_same(name, narrow, torch.arange(40) // 13, 2e-4)


@every_layer
@pytest.mark.parametrize("batch", [SORTED, SHUFFLED], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_results_that_are_written_past_the_caches_are_the_same(name, dtype, batch):
    # Rows of 32 numbers begin where a line of the cache does, those of 9 and of 20 do not: the instructions that write
    # past the caches end the process there.
    for channels in (9, 20, 32):
        x, layer = features(channels, dtype), prepared(name, torch.float32, channels)
        with choice.using("cpu"), pytest.MonkeyPatch.context() as patch:
            expected = derivatives(layer, x, batch)
            patch.setattr(cpu.kernels(), "large", 0)
            found = derivatives(layer, x, batch)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


def test_the_gradient_of_the_gradient_agrees_with_finite_differences():
    for name in layers():
        layer = prepared(name)
        names = [key for key, _ in layer.named_parameters()]
        x = features(nodes=7).requires_grad_()

        def function(x: Tensor, *values: Tensor, layer=layer, names=names) -> Tensor:
            given = dict(zip(names, values, strict=True))
            return torch.func.functional_call(layer, given, (x, torch.tensor([0, 0, 0, 2, 2, 2, 2]), 4))

        with choice.using("cpu"):
            assert torch.autograd.gradcheck(function, (x, *layer.parameters()), fast_mode=True)
            assert torch.autograd.gradgradcheck(function, (x, *layer.parameters()), fast_mode=True)


# What inputs may be


def test_far_from_zero_the_error_is_of_the_size_of_the_rounding_of_the_input():
    for sizes in ((4,) * 9, (64,) * 4, (3000, 1, 2), (20000, 1)):
        batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        x = (torch.randn(len(batch), CHANNELS, dtype=torch.float64) + 1e4).float()
        layer = gn.InstanceNorm(CHANNELS)
        with choice.using("cpu"):
            y, exact = layer(x, batch), layer(x.double(), batch)
        spread = torch.stack([x[batch == k].double().std(0, correction=0) for k in range(len(sizes))])
        error = ((y - exact) * (spread.square() + layer.eps).sqrt()[batch]).abs().max()
        assert error < 6 * 1e4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["graph", "whole graph", "row", "row without mean", "mean alone", "own", "irreps"])
def test_what_is_not_a_number_spreads_as_in_torch(name, bad):
    for place in ("x", "g"):
        layer, results = prepared(name), []
        for which in ("cpu", "analytic"):
            x, g = features(nodes=12), torch.ones(12, CHANNELS, dtype=torch.float64)
            (x if place == "x" else g)[4, 2] = bad
            x.requires_grad_()
            with choice.using(which):
                y = layer(x, torch.arange(12) // 4, 3)
                (first,) = torch.autograd.grad(y, x, g, create_graph=True)
                second = torch.autograd.grad(first.square().sum(), x, allow_unused=True, materialize_grads=True)
            results.append([y, first, *second])
        for one, other in zip(*results, strict=True):
            assert torch.equal(one.isfinite(), other.isfinite())


@every_layer
def test_nothing_at_all_is_standardized_without_complaint(name):
    layer = prepared(name)
    for batch, samples in ((torch.zeros(0, dtype=torch.long), 0), (torch.zeros(0, dtype=torch.long), 3)):
        with choice.using("cpu"):
            found = derivatives(layer, torch.zeros(0, CHANNELS, dtype=torch.float64), batch, samples)
        with choice.using("analytic"):
            expected = derivatives(layer, torch.zeros(0, CHANNELS, dtype=torch.float64), batch, samples)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
    assert gn.Standardize(0).double()(torch.zeros(3, 0, dtype=torch.float64)).shape == (3, 0)


def test_views_of_any_stride_are_read_right():
    layer = prepared("graph")
    wide = features(2 * CHANNELS)
    for x in (wide[:, ::2], wide[:, :CHANNELS], wide.t()[:CHANNELS].t(), wide[:, :CHANNELS].flip(0)):
        with choice.using("cpu"):
            found = derivatives(layer, x, SORTED)
            expected = derivatives(layer, x.contiguous(), SORTED)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
    # The gradient of a sum is one number seen everywhere; that of an imaginary part has its sign on paper only.
    x = features().requires_grad_()
    with choice.using("cpu"):
        (summed,) = torch.autograd.grad(layer(x, SORTED).sum(), x)
        (ones,) = torch.autograd.grad(layer(x, SORTED), x, torch.ones_like(x))
        minus = torch.complex(torch.zeros_like(x), -torch.cos(x.detach())).conj().imag
        assert minus.is_neg()
        torch.testing.assert_close(layer(minus, SORTED), layer(minus.clone().resolve_neg(), SORTED))
        signed = torch.autograd.grad(layer(x, SORTED), x, minus)
        plain = torch.autograd.grad(layer(x, SORTED), x, minus.resolve_neg())
    assert torch.equal(summed, ones)
    assert torch.equal(*signed, *plain)


def test_the_scale_is_right_where_the_mean_itself_is_rounded_to_a_part_of_it():
    x = 2.0**24 + 2 * torch.randint(0, 16, (50, 64))
    with choice.using("cpu"):
        y = gn.LayerNorm(64, mode="node")(x.float())
    expected = torch.nn.functional.layer_norm(x.double(), (64,))
    # A difference of two columns does not depend on the mean.
    torch.testing.assert_close((y - y[:, :1]).double(), expected - expected[:, :1], rtol=1e-5, atol=1e-5)


def test_numbers_of_samples_that_do_not_exist_are_refused():
    with choice.using("cpu"):
        for batch, samples, words in (
            ([0, 5, 1], 3, "batch_size is 3"),
            ([-1, 0, 1], 3, "sample number -1"),
            ([1, 0, -1], None, "sample number -1"),
        ):
            with pytest.raises(ValueError, match=words):
                gn.GraphNorm(4)(torch.randn(3, 4), torch.tensor(batch), samples)
        for layer in (gn.GraphNorm(4), gn.BatchNorm(4), gn.LayerNorm(4, mode="node")):
            with pytest.raises(ValueError, match="batch has shape"):
                layer(torch.randn(3, 4), torch.tensor([0, 1]), 2)
        x, half = torch.randn(3, 4), torch.tensor([0, 1, 1], dtype=torch.int32)
        torch.testing.assert_close(gn.GraphNorm(4)(x, half, 2), gn.GraphNorm(4)(x, half.long(), 2))


# When kernels compute, and when they leave it to torch


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The kernels that are called, in their order."""
    called = []
    for name in ("forward", "backward", "double_backward"):
        original = getattr(cpu, name)

        def recorded(*arguments, original=original, name=name, **named):
            called.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(cpu, name, recorded)
    return called


def test_the_three_orders_are_three_calls(calls):
    with choice.using("cpu"):
        derivatives(prepared("graph"), features(), SORTED)
    assert calls == ["forward", "backward", "double_backward"]
    calls.clear()
    with choice.using("analytic"):
        derivatives(prepared("graph"), features(), SORTED)
    assert calls == []


@every_layer
def test_every_layer_takes_the_kernels_in_all_three_orders(name, calls):
    with choice.using("cpu"):
        derivatives(prepared(name), features(), SORTED)
    assert calls == ["forward", "backward", "double_backward"]


def test_where_nothing_is_scaled_and_learned_the_features_have_no_second_gradient(calls):
    x, g = features().requires_grad_(), features().requires_grad_()
    with choice.using("cpu"):
        y = gn.MeanSubtractionNorm(CHANNELS)(x, SORTED, len(SIZES))
        (first,) = torch.autograd.grad(y, x, g, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), [g, x], allow_unused=True)
    assert calls == ["forward", "backward", "double_backward"]
    torch.testing.assert_close(second[0], 2 * first)  # a projection, which is its own transpose
    assert second[1] is None


def test_transforms_of_functions_are_left_to_torch(calls):
    layer, x, batch = prepared("graph"), features(nodes=6), torch.tensor([0, 0, 0, 1, 1, 1])

    def function(x: Tensor) -> Tensor:
        return layer(x, batch, 2)

    with choice.using("analytic"):
        jacobian = torch.func.jacrev(function)(x)
    with choice.using("cpu"):
        torch.testing.assert_close(torch.func.jacrev(function)(x), jacobian)
        torch.testing.assert_close(torch.func.jacfwd(function)(x), jacobian)
        assert calls == []
        # Only the gradients are batched here, of a result that a kernel computed.
        torch.testing.assert_close(torch.autograd.functional.jacobian(function, x, vectorize=True), jacobian)
        assert calls == ["forward"]
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            along = torch.autograd.forward_ad.unpack_dual(function(dual)).tangent
        torch.testing.assert_close(along, jacobian.sum((2, 3)))


@pytest.mark.parametrize("name", ["graph", "mean alone"])
def test_the_third_derivative_follows_a_second_by_a_kernel(name):
    def orders() -> list[Tensor]:
        torch.manual_seed(0)
        layer = prepared(name)
        x = features(nodes=7).requires_grad_()
        value = layer(x, torch.tensor([0, 0, 0, 2, 2, 2, 2]), 4).pow(3).sum()
        found = []
        for _ in range(3):
            (gradient,) = torch.autograd.grad(value, x, create_graph=True)
            found.append(gradient)
            value = (gradient * torch.cos(torch.arange(gradient.numel())).view_as(gradient)).sum()
        return found

    with choice.using("cpu"):
        found = orders()
    with choice.using("analytic"):
        for one, other in zip(found, orders(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_tensors_without_numbers_are_left_to_torch(calls):
    from torch._subclasses.fake_tensor import FakeTensorMode

    layer = gn.Standardize(4, mean=None, scale="v", gain=False, bias=False)
    with choice.using("cpu"):
        with FakeTensorMode() as mode:
            y = layer(torch.randn(6, 4))
            assert y.shape == (6, 4)
            assert y.fake_mode is mode
        meta = gn.GraphNorm(4, device="meta")(torch.randn(6, 4, device="meta"))
        assert meta.is_meta
        assert fused.kernels_for(torch.randn(6, 4).to_sparse()) is None
        assert fused.kernels_for(torch.randn(6, 4).half()) is None
    assert calls == []


@pytest.mark.filterwarnings("ignore")  # the tracer warns of every decision that it fixes
def test_a_traced_layer_holds_the_formula():
    layer, batch = gn.GraphNorm(4).requires_grad_(False), torch.tensor([0, 0, 0, 1, 1, 1])
    with choice.using("cpu"), torch.no_grad(), untyped():
        traced = torch.jit.trace(lambda x: layer(x, batch, 2), torch.randn(6, 4), check_trace=False)
        assert "aten::rsqrt" in str(traced.graph)
        x = torch.randn(6, 4)
        torch.testing.assert_close(traced(x), layer(x, batch, 2))


def test_inference_and_automatic_half_precision_change_nothing():
    layer, x = gn.GraphNorm(CHANNELS), features(dtype=torch.float32)
    with choice.using("cpu"):
        expected = layer(x, SORTED)
        with torch.inference_mode():
            assert torch.equal(layer(x, SORTED), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(layer(x, SORTED), expected)


def test_a_layer_that_was_used_can_be_copied_and_stored():
    layer, x = gn.GraphNorm(CHANNELS), features(dtype=torch.float32)
    with choice.using("cpu"):
        expected = layer(x, SORTED)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(other(x, SORTED), expected)


def test_recipes_do_not_outlive_their_layers():
    import gc

    gc.collect()
    before = len(recipes.recipe.known)
    layer = gn.GraphNorm(CHANNELS)
    with choice.using("cpu"):
        layer(features(dtype=torch.float32), SORTED)
    assert len(recipes.recipe.known) == before + 1
    del layer
    gc.collect()
    assert len(recipes.recipe.known) == before


# The library


def test_it_says_what_is_in_use_and_the_environment_chooses():
    def answer(chosen: str | None, code: str = "from geonorm.kernels import choice; print(choice.in_use())") -> str:
        import os

        environment = {key: value for key, value in os.environ.items() if key != choice.VARIABLE}
        if chosen is not None:
            environment[choice.VARIABLE] = chosen
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    assert answer(None).startswith("cpu (")
    assert answer("analytic") == "analytic"
    assert "expected one of 'auto', 'cpu', 'triton', 'analytic'" in answer("fast")
    missing = (
        "from pathlib import Path; from geonorm.kernels.cpu import library; library.LIBRARY = Path('none'); "
        "from geonorm.kernels import choice; print(choice.in_use())"
    )
    assert answer(None, missing) == "analytic"
    assert "install geonorm where there is a C++ compiler" in answer("cpu", missing)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists the libraries of a process")
def test_threads_are_those_of_torch():
    cpu.kernels()
    maps = Path("/proc/self/maps").read_text().split()
    pools = {Path(entry).resolve() for entry in maps if "libgomp" in entry}
    assert len(pools) <= 1


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="processes do not fork here")
def test_a_forked_process_computes_alone():
    code = """
import os, torch, geonorm as gn
from geonorm.kernels import choice
from geonorm.kernels.cpu import calls
torch.set_num_threads(2)
calls.PARALLEL = calls.SHARE = 1
x, batch = torch.randn(500, 8), torch.arange(500) // 20
layer = gn.GraphNorm(8)
with choice.using("cpu"):
    expected = layer(x, batch)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.allclose(layer(x, batch), expected, atol=1e-5) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0", done.stderr


def test_the_structure_of_a_recipe_is_that_of_the_source():
    source = (Path(cpu.__file__).parent / "source" / "interface.h").read_text()
    for structure, name in ((recipes._Columns, "Columns"), (recipes._Recipe, "Recipe")):
        body = re.sub("//.*", "", source.split(f"struct {name} {{")[1].split("};")[0])
        declared = [part.split("[")[0] for part in re.split("[,;]", body) if part.strip()]
        names = [re.findall("[a-z]+", part)[-1] for part in declared]
        assert names == [field for field, _ in structure._fields_]
    assert ctypes.sizeof(recipes._Columns) == 40
