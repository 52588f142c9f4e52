"""The family of normalization layers: e3nn's BatchNorm in it, what it refuses, how it is kept and moved."""

import copy
import pickle

import pytest
import torch
from e3nn import nn as e3nn
from e3nn import o3
from layers.peers import EXACT, assert_equal, gradients, ragged_batch, randomize, refused
from torch import Tensor, nn

import geonorm as gn

IRREPS = "2x0e+1x1o+3x0e+2x0o+1x2e"
SIZES = (3, 0, 1, 4)
BATCH = ragged_batch(SIZES)
NODES = sum(SIZES)


def features(irreps: str, nodes: int = NODES) -> Tensor:
    """Random features far from mean zero and variance one."""
    return 2 * torch.randn(nodes, o3.Irreps(irreps).dim, dtype=torch.float64) + 0.7


# e3nn's BatchNorm


def pair(irreps: str, normalization: str = "component", affine: bool = True) -> tuple[gn.Standardize, e3nn.BatchNorm]:
    """The layer and e3nn's BatchNorm with the same random parameters."""
    ours = gn.Standardize(
        irreps,
        mean="bx",
        scale="bxm",
        normalization=normalization,
        gain=affine,
        bias=affine,
        track_running_stats=True,
        dtype=torch.float64,
    )
    # e3nn cannot split features into blocks of multiplicity zero.
    theirs = e3nn.BatchNorm(o3.Irreps(irreps).remove_zero_multiplicities(), affine=affine, normalization=normalization)
    randomize(ours)
    theirs.double()
    with torch.no_grad():
        if affine:
            theirs.weight.copy_(ours.weight)
            if ours.bias is not None:
                theirs.bias.copy_(ours.bias)
    return ours, theirs


def assert_same_layer(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    results = []
    for layer in (ours, theirs):
        inputs = [x.detach().requires_grad_(), *(p for p in (layer.weight, layer.bias) if p is not None and p.numel())]
        y = layer(inputs[0])
        results.append([y, *gradients(y, inputs)])
    for one, other in zip(*results, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("irreps", [IRREPS, "2x1o", "3x0e", "2x0o+1x1e", "2x0e+0x1o+1x2e+0x0e", "1x0e+1x1o+1x0e+1x1o"])
@pytest.mark.parametrize("normalization", ["component", "norm"])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_on_irreps_it_is_the_batch_norm_of_e3nn(irreps, normalization, affine):
    ours, theirs = pair(irreps, normalization, affine)
    for _ in range(3):
        assert_same_layer(ours, theirs, features(irreps))
        assert_equal(ours.running_var, theirs.running_var, "running_var")
        if ours.running_mean is not None:
            assert_equal(ours.running_mean, theirs.running_mean, "running_mean")
    assert_same_layer(ours.eval(), theirs.eval(), features(irreps))


def test_on_a_number_of_channels_running_variances_are_unbiased_as_in_torch_and_not_as_in_e3nn():
    x = features("4x0e")
    by_number, by_irreps = (
        gn.Standardize(kind, track_running_stats=True, momentum=1.0, dtype=torch.float64) for kind in (4, "4x0e")
    )
    theirs = e3nn.BatchNorm("4x0e", momentum=1.0).double()
    for layer in (by_number, by_irreps, theirs):
        layer(x)
    assert_equal(by_irreps.running_var, theirs.running_var)
    assert_equal(by_number.running_var, theirs.running_var * NODES / (NODES - 1))
    assert_equal(by_number(x), theirs(x))


@pytest.mark.parametrize("normalization", ["component", "norm"])
def test_per_sample_on_a_dense_batch_it_is_the_instance_norm_of_e3nn(normalization):
    x = features(IRREPS, 12).view(3, 4, -1)
    ours = gn.Standardize(IRREPS, mean="x", scale="xm", normalization=normalization, dtype=torch.float64)
    theirs = e3nn.BatchNorm(IRREPS, instance=True, normalization=normalization).double()
    assert_same_layer(ours, theirs, x)


# What it says about itself


def test_parameters_belong_to_fields_and_the_bias_to_invariants():
    layer = gn.Standardize(IRREPS, learn_alpha=True, mean="x", scale="xm", learn_exponent=True, exponent=0.5)
    assert {name: tuple(value.shape) for name, value in layer.named_parameters()} == {
        "weight": (9,),  # 2 + 1 + 3 + 2 + 1 fields
        "bias": (5,),  # the 0e among them
        "mean_scale": (9,),
        "exponent_logit": (4,),  # 0e, 1o, 0o, 2e
    }
    assert gn.Standardize("2x1o", mean="x", scale="xm").bias is None
    plain = gn.Standardize(IRREPS, mean="x", scale="xm", gain=False, bias=False)
    assert not list(plain.parameters())
    assert not plain.state_dict()


def test_it_says_what_it_is():
    assert repr(gn.Standardize(64)) == "Standardize(64, mean='bx', scale='bx', statistic='residual')"
    layer = gn.Standardize("2x0e+1x1o", mean=None, scale="mxv", statistic="rms")
    assert repr(layer) == "Standardize('2x0e+1x1o', mean=none, scale='xvm', statistic='rms')"


def everything() -> gn.Standardize:
    return gn.Standardize(
        IRREPS,
        mean="bx",
        scale="bxm",
        learn_alpha=True,
        alpha=0.5,
        learn_exponent=True,
        exponent=0.9,
        track_running_stats=True,
        dtype=torch.float64,
    )


def test_initial_values_are_those_that_were_asked_for_and_come_back():
    layer = everything()
    x = features(IRREPS)
    first = layer(x)
    randomize(layer)
    assert not torch.allclose(layer(x), first)
    layer.reset_parameters()
    assert_equal(layer(x), first)
    assert layer.num_batches_tracked == 1
    assert set(layer.mean_scale.tolist()) == {0.5}
    assert_equal(torch.sigmoid(layer.exponent_logit), torch.full((4,), 0.9, dtype=torch.float64))


def test_the_state_is_complete():
    layer = randomize(everything())
    x = features(IRREPS)
    layer(x)
    keys = {"weight", "bias", "mean_scale", "exponent_logit", "running_mean", "running_var", "num_batches_tracked"}
    assert layer.state_dict().keys() == keys
    other = everything()
    other.load_state_dict(layer.state_dict(), strict=True)
    copies = (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)))
    for training in (True, False):
        expected = layer.train(training)(x)
        for copied in copies:
            assert torch.equal(copied.train(training)(x), expected)
    assert torch.equal(copies[1].running_mean, layer.running_mean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("normalization", ["component", "norm", "row", "degree"])
def test_a_change_of_type_costs_one_rounding(dtype, normalization):
    kwargs = dict(mean="x", scale="xvtm", statistic="rms", normalization=normalization)
    x = features(IRREPS).to(dtype)
    exact = gn.Standardize(IRREPS, **kwargs, dtype=torch.float64)(x.double(), BATCH, 4)
    made, moved = gn.Standardize(IRREPS, **kwargs, dtype=dtype), gn.Standardize(IRREPS, **kwargs).to(dtype)
    for layer in (made, moved):
        assert layer.weight.dtype == dtype
        y = layer(x, BATCH, 4)
        assert y.dtype == dtype
        error = (y.double() - exact).abs().max() / exact.abs().max()
        assert error <= max(torch.finfo(dtype).eps, 1e-6 if dtype == torch.float32 else 0)


# What it refuses


@pytest.mark.parametrize(
    ("features", "kwargs", "message"),
    [
        (4, dict(statistic="std"), "statistic is 'std', expected one of 'rms', 'residual', 'own'"),
        (
            4,
            dict(normalization="mean"),
            "normalization is 'mean', expected one of 'component', 'norm', 'row', 'degree'",
        ),
        (4, dict(level="graph"), "level is 'graph', expected one of 'batch', 'sample', 'node'"),
        (4, dict(mean_on="scalars"), "mean_on is 'scalars', expected one of '0e', 'all'"),
        (4, dict(eps=-1e-5), "eps is -1e-05, expected a number >= 0: it is added to a mean of squares"),
        (4, dict(learn_exponent=True), "exponent is 1.0: to be learned it must start strictly between 0 and 1"),
        (4, dict(scale="bxv", statistic="own", normalization="row"), "'own' is a variance: normalization 'row'"),
        (4, dict(mean="xv", channel_groups=3), "cannot be split into 3 groups .* choose a divisor of the number"),
        (4, dict(mean="xv", channel_groups=0), "cannot be split into 0 groups"),
        ("4x0e+3x1o", dict(mean=None, scale="xvm", statistic="rms", channel_groups=2), "into 2 groups"),
        (4, dict(mean="b"), "pool samples"),
        (4, dict(scale="xq"), "must use each of these letters"),
        (-1, {}, "channels is -1"),
        ("two vectors", {}, "give an int such as 64"),
    ],
)
def test_arguments_out_of_range_are_refused_with_the_range(features, kwargs, message):
    with refused(message):
        gn.Standardize(features, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "clauses"),
    [
        (dict(), "S"),
        (dict(mean="bx", mean_on="all", scale="bxm"), "M"),
        (dict(mean="v", mean_on="all", scale="bxv"), "S"),
        (dict(mean="xm", mean_on="all", scale="bxvm", statistic="own"), "MS"),
    ],
    ids=str,
)
def test_illegal_axes_are_refused_with_the_clause_unless_a_counter_example_is_wanted(kwargs, clauses):
    reasons = r".*\n".join(rf"  \({clause}\)" for clause in clauses)
    with refused(
        rf"(?s)not equivariant on '1x0e\+2x1o' at the level of one rotation per sample:\n{reasons}.*allow_illegal"
    ):
        gn.Standardize("1x0e+2x1o", **kwargs)
    assert gn.Standardize("1x0e+2x1o", **kwargs, allow_illegal=True)(torch.randn(5, 7)).shape == (5, 7)


def test_what_is_legal_depends_on_the_level():
    kwargs = dict(mean="bx", mean_on="all", scale="bxm")
    gn.Standardize("2x1o", **kwargs, level="batch")
    for level in ("sample", "node"):
        with refused(f"one rotation per {level}"):
            gn.Standardize("2x1o", **kwargs, level=level)


def test_features_of_another_width_are_refused():
    with refused(r"x has shape \[5, 6\], expected \[nodes, 7\]"):
        gn.Standardize("1x0e+2x1o", scale="bxm")(torch.randn(5, 6))


# Nodes and samples


CHOICES = [
    dict(mean="bx", scale="bxm"),
    dict(mean="x", scale="xm", mean_on="all", alpha=0.7),
    dict(mean="xv", scale="xvtm", normalization="degree"),
    dict(mean="v", scale="vm", level="node"),
    dict(mean=None, scale="bxvm", statistic="rms", exponent=0.5),
    dict(mean="xvm", scale=None),
]
every_choice = pytest.mark.parametrize("kwargs", CHOICES, ids=str)


@every_choice
def test_the_order_of_nodes_and_of_samples_does_not_matter(kwargs):
    layer = randomize(gn.Standardize(IRREPS, dtype=torch.float64, **kwargs))
    x = features(IRREPS)
    expected = layer(x, BATCH, 4)
    nodes, samples = torch.randperm(NODES), torch.randperm(4)
    assert_equal(layer(x[nodes], samples[BATCH[nodes]], 4), expected[nodes])
    assert_equal(layer(x, BATCH), expected)
    assert_equal(layer(x, BATCH.int(), 9), expected)


@every_choice
def test_a_dense_batch_is_a_ragged_one_with_samples_of_one_size(kwargs):
    layer = randomize(gn.Standardize(IRREPS, dtype=torch.float64, **kwargs))
    x = features(IRREPS, 12)
    expected = layer(x, torch.arange(12) // 4, 3)
    assert_equal(layer(x.view(3, 4, -1)), expected.view(3, 4, -1))
    assert_equal(layer(x.view(3, 4, -1), batch_size=3), expected.view(3, 4, -1))
    assert_equal(layer(x), layer(x[None])[0])


@every_choice
def test_hard_inputs_have_finite_results_to_second_order(kwargs):
    layer = gn.Standardize(IRREPS, dtype=torch.float64, **kwargs)
    dim = layer.fields.dim
    constant = torch.full((1, dim), 3.0, dtype=torch.float64).expand(NODES, -1)
    inputs = {
        "zeros": torch.zeros(NODES, dim, dtype=torch.float64),
        "constant": constant,
        "constant but for one": torch.cat([constant[1:], constant[:1] + 1]),
        "nothing": torch.zeros(0, dim, dtype=torch.float64),
        "one node": features(IRREPS, 1),
    }
    for name, x in inputs.items():
        x = x.clone().requires_grad_()
        y = layer(x, BATCH[: len(x)], 4)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        for value in (y, first, second):
            assert value.isfinite().all(), name
    zero = layer(inputs["zeros"], BATCH, 4)
    assert zero.abs().max() == 0


def test_channels_in_groups_are_group_norm():
    layer = gn.Standardize(6, mean="xv", scale="xv", channel_groups=3, dtype=torch.float64)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    theirs = nn.GroupNorm(3, 6, dtype=torch.float64)
    assert_equal(layer(x), theirs(x.transpose(1, 2)).transpose(1, 2), tolerance=EXACT)


# Eval mode on irreps


@pytest.mark.parametrize("axes", [("bx", "bxm"), ("bxvm", "bxvtm"), ("x", "xvm")], ids=str)
def test_eval_mode_is_train_mode_with_the_statistics_of_the_buffers(axes):
    # Of irreps the second moments are kept as they are: after one batch with momentum one both modes agree on it.
    mean, scale = axes
    kwargs = dict(alpha=0.6, learn_alpha=True, exponent=0.8, learn_exponent=True, dtype=torch.float64)
    layer = gn.Standardize(IRREPS, mean=mean, scale=scale, track_running_stats=True, momentum=1.0, **kwargs)
    randomize(layer)
    x = features(IRREPS)
    expected = layer(x)
    assert_equal(layer.eval()(x), expected)
    constant = gn.Standardize(IRREPS, mean=mean, scale=scale, track_running_stats=True, alpha=0.6, exponent=0.8)
    x = x.float()
    constant.momentum = 1.0
    torch.testing.assert_close(constant(x), constant.eval()(x))


def test_in_eval_mode_every_node_may_be_rotated_by_itself():
    layer = randomize(everything())
    irreps = o3.Irreps(IRREPS)
    for _ in range(3):
        layer(features(IRREPS))
    layer.eval()
    x = features(IRREPS)
    signs = torch.tensor([1.0, -1.0] * (NODES // 2), dtype=torch.float64)
    turn = irreps.D_from_matrix(o3.rand_matrix(NODES, dtype=torch.float64) * signs[:, None, None])

    def turned(values: Tensor) -> Tensor:
        return torch.einsum("nij,nj->ni", turn, values)

    assert_equal(layer(turned(x)), turned(layer(x)), tolerance=1e-11)
    assert_equal(layer(x[:1]), layer(x)[:1])
