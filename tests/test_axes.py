"""Named axes, and batches of samples of different sizes."""

import copy
import itertools
import pickle

import pytest
import torch
from layers.peers import ragged_batch, refused
from torch import Tensor

import geonorm as gn
from geonorm.axes import LETTERS, NodeFeatures

CHANNELS = 3

# Axes


@pytest.mark.parametrize("letters", ["bx", "xv", "bxv", "xm", "vtm", "bxvtm"])
def test_the_order_in_which_axes_are_written_does_not_matter(letters):
    written = {gn.Axes("".join(order)) for order in itertools.permutations(letters)}
    assert written == {letters}


def test_every_subset_of_the_axes_is_either_canonical_or_refused():
    accepted = []
    for size in range(len(LETTERS) + 1):
        for letters in map("".join, itertools.combinations(LETTERS, size)):
            if ("b" in letters and "x" not in letters) or ("t" in letters and not {"v", "m"} <= set(letters)):
                with refused("axes"):
                    gn.Axes(letters)
            else:
                accepted.append(gn.Axes(letters))
    # {}, x, bx for the rows times {}, v, m, vm, vtm for the columns.
    assert len(set(accepted)) == 15


@pytest.mark.parametrize(
    ("letters", "message"),
    [
        ("bxz", r"'bxz' must use each of these letters at most once: b \(samples of the batch\), x"),
        ("xx", "at most once"),
        ("bv", r"pool samples \(b\) but not nodes \(x\).*Pool 'bx', or 'x' per sample"),
        ("b", "Pool 'bx', or 'x' per sample"),
        ("xt", "add 'v' and 'm'"),
    ],
)
def test_axes_without_a_meaning_are_refused_with_a_way_out(letters, message):
    with refused(message):
        gn.Axes(letters)


@pytest.mark.parametrize(
    ("letters", "rows"), [("", "node"), ("vtm", "node"), ("x", "sample"), ("xv", "sample"), ("bx", "batch")]
)
def test_the_axes_say_which_rows_share_a_statistic(letters, rows):
    assert gn.Axes(letters).rows == rows


def test_axes_are_strings_that_survive_copies():
    axes = gn.Axes("vx")
    assert axes == "xv"
    assert {axes: 1}["xv"] == 1
    assert repr(axes) == "Axes('xv')"
    for copied in (copy.copy(axes), copy.deepcopy(axes), pickle.loads(pickle.dumps(axes)), gn.Axes(axes)):
        assert type(copied) is gn.Axes
        assert copied == axes


# Segments


def by_hand(x: Tensor, batch: Tensor, samples: int) -> list[Tensor]:
    return [x[batch == sample] for sample in range(samples)]


@pytest.mark.parametrize("index_dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("size_given", [False, True], ids=["no batch_size", "batch_size"])
def test_counts_sums_and_their_expansion_are_those_of_each_sample(index_dtype, shuffled, size_given):
    batch = ragged_batch((3, 0, 1, 5), shuffled=shuffled).to(index_dtype)
    x = torch.randn(9, CHANNELS)
    segments = gn.Segments.from_batch(x, batch, 4 if size_given else None)
    samples = by_hand(x, batch, 4)
    assert segments.num_samples == 4
    assert segments.counts(x).tolist() == [3, 0, 1, 5]
    torch.testing.assert_close(segments.sum(x), torch.stack([sample.sum(0) for sample in samples]))
    rows = torch.arange(4.0)[:, None]
    assert segments.expand(rows)[:, 0].tolist() == batch.tolist()


def test_samples_without_nodes_at_the_end_count_when_the_batch_size_says_so():
    x = torch.randn(2, CHANNELS)
    segments = gn.Segments.from_batch(x, torch.tensor([0, 0]), 3)
    assert segments.counts(x).tolist() == [2, 0, 0]
    assert segments.sum(x)[1:].abs().max() == 0


@pytest.mark.parametrize("batch_size", [None, 1])
def test_without_a_batch_vector_all_nodes_are_one_sample(batch_size):
    x = torch.randn(4, CHANNELS)
    segments = gn.Segments.from_batch(x, None, batch_size)
    assert segments.num_samples == 1
    assert segments.counts(x).tolist() == [4]
    torch.testing.assert_close(segments.sum(x), x.sum(0, keepdim=True))
    assert (segments.expand(x[:1]) + torch.zeros_like(x)).shape == x.shape


@pytest.mark.parametrize("batch_size", [None, 0, 2])
def test_a_batch_without_nodes_has_the_samples_that_were_announced(batch_size):
    x = torch.randn(0, CHANNELS)
    segments = gn.Segments.from_batch(x, torch.zeros(0, dtype=torch.long), batch_size)
    assert segments.num_samples == (batch_size or 0)
    assert segments.sum(x).shape == (batch_size or 0, CHANNELS)
    assert segments.counts(x).tolist() == [0] * (batch_size or 0)


@pytest.mark.parametrize("shape", [(2, 4), (1, 4), (3, 0), (0, 4)])
def test_a_dense_batch_is_the_ragged_batch_of_samples_of_one_size(shape):
    x = torch.randn(*shape, CHANNELS)
    dense = gn.Segments.dense(x)
    batch = torch.arange(shape[0]).repeat_interleave(shape[1])
    assert dense.num_samples == shape[0]
    assert dense.num_nodes == shape[0] * shape[1]
    assert torch.equal(dense.index, batch)
    torch.testing.assert_close(dense.sum(x.flatten(0, 1)), x.sum(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nodes_are_counted_in_float32_or_wider(dtype):
    # float16 ends at 65504 and bfloat16 counts by twos from 256 on.
    x = torch.zeros(70001, 1, dtype=dtype)
    batch = torch.zeros(70001, dtype=torch.long)
    assert gn.Segments.from_batch(x, batch).counts(x).item() == 70001
    assert gn.Segments.from_batch(x).counts(x).item() == 70001


@pytest.mark.parametrize(
    ("batch", "batch_size", "message"),
    [
        (torch.zeros(3, dtype=torch.long), None, r"batch has shape \[3\], expected \[4\]: one sample number for each"),
        (torch.zeros(4, 1, dtype=torch.long), None, r"batch has shape \[4, 1\], expected \[4\]"),
        (torch.zeros(4), None, r"dtype torch.float32, expected torch.int64: convert it with batch.long\(\)"),
        (torch.zeros(4, dtype=torch.bool), None, r"dtype torch.bool, expected torch.int64"),
        (torch.tensor([0, 0, 1, 2]), 2, "batch_size is 2 but batch numbers samples up to 2"),
        (torch.tensor([0, -1, 0, 0]), None, "sample number -1, expected numbers from 0"),
        (torch.tensor([0, -1, 0, 0]), 2, "sample number -1, expected numbers from 0"),
        (None, 2, "batch_size is 2 but no batch vector .* pass batch, an integer tensor"),
    ],
)
def test_a_batch_vector_that_does_not_fit_is_refused_with_a_way_out(batch, batch_size, message):
    with refused(message):
        gn.Segments.from_batch(torch.randn(4, CHANNELS), batch, batch_size)


@pytest.mark.parametrize(
    ("x", "batch", "batch_size", "message"),
    [
        (torch.randn(4, 2), None, None, r"x has shape \[4, 2\], expected \[nodes, 3\] .* or a dense batch"),
        (torch.randn(3), None, None, r"x has shape \[3\]"),
        (torch.randn(1, 1, 1, 3), None, None, r"x has shape \[1, 1, 1, 3\]"),
        (torch.randn(2, 4, 3), torch.zeros(8, dtype=torch.long), None, r"flatten x to \[nodes, 3\], or leave batch"),
        (torch.randn(2, 4, 3), None, 3, "a dense batch of 2 samples, but batch_size is 3: leave batch_size out"),
        (torch.ones(4, 3, dtype=torch.long), None, None, r"x has dtype torch.int64.* convert it with x.float\(\)"),
        (torch.randn(4, 3), torch.zeros(5, dtype=torch.long), None, r"batch has shape \[5\], expected \[4\]"),
        (torch.randn(4, 3), torch.zeros(4), None, r"convert it with batch.long\(\)"),
    ],
)
def test_features_that_do_not_fit_are_refused_with_a_way_out(x, batch, batch_size, message):
    with refused(message):
        NodeFeatures.read(x, batch, batch_size, CHANNELS)


@pytest.mark.parametrize("layer", [gn.BatchNorm(CHANNELS), gn.GraphNorm(CHANNELS), gn.LayerNorm(CHANNELS, mode="node")])
def test_a_batch_vector_of_the_wrong_length_is_an_error_also_where_the_layer_does_not_need_it(layer):
    with refused(r"batch has shape \[5\], expected \[4\]"):
        layer(torch.randn(4, CHANNELS), torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize("shape", [(4, CHANNELS), (2, 4, CHANNELS), (0, CHANNELS), (2, 0, CHANNELS), (4, 0), (2, 4, 0)])
def test_features_come_back_in_the_shape_they_had(shape):
    x = torch.randn(shape)
    given = NodeFeatures.read(x, None, None, shape[-1])
    assert given.x.ndim == 2
    assert torch.equal(given.restore(given.x.clone()), x)


def test_features_in_a_transposed_layout_are_read_right():
    layer = gn.LayerNorm(CHANNELS)
    matrix = torch.randn(CHANNELS, 8).T
    dense = torch.randn(CHANNELS, 2, 4).permute(1, 2, 0)
    mixed = torch.randn(4, 2, CHANNELS).transpose(0, 1)
    for x in (matrix, dense, mixed):
        assert not x.is_contiguous()
        torch.testing.assert_close(layer(x), layer(x.contiguous()))


# Nothing is read back from the device


@pytest.mark.parametrize(
    "layer",
    [
        gn.GraphNorm(CHANNELS, device="meta"),
        gn.InstanceNorm(CHANNELS, track_running_stats=True, device="meta"),
        gn.BatchNorm(CHANNELS, momentum=None, device="meta"),
        gn.PairNorm(CHANNELS, device="meta"),
        gn.Standardize("2x0e+1x1o", mean="xvtm", scale="xvtm", normalization="degree", device="meta"),
        gn.Standardize("2x0e+1x1o", mean="x", scale="xm", learn_exponent=True, exponent=0.5, device="meta"),
    ],
    ids=repr,
)
def test_a_known_batch_size_keeps_the_device_and_the_host_apart(layer):
    # Tensors on "meta" have no values: any attempt to read one raises, as any attempt to read a GPU would wait for it.
    columns = layer.fields.dim
    x = torch.randn(7, columns, device="meta", requires_grad=True)
    batch = torch.zeros(7, dtype=torch.long, device="meta")
    with torch.no_grad(), pytest.raises((RuntimeError, NotImplementedError)):
        batch.max().item()
    y = layer(x, batch, 3)
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.autograd.grad(grad.sum(), x)
    assert y.shape == x.shape
    assert y.device.type == "meta"
