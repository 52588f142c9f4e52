"""Permutations, exchanges, shifts and scales change what they are meant to change, and nothing else."""

import pytest
import torch

from geonorm.match import permute_nodes, permute_samples, pools, replace_other_samples
from geonorm.match import scale as scaled
from geonorm.match import shift as shifted

BATCH = torch.tensor([0, 1, 0, 1, 1, 2])


def test_permuted_nodes_stay_in_their_sample_and_really_move() -> None:
    for seed in range(20):
        order = permute_nodes(BATCH, seed)
        assert torch.equal(order.sort().values, torch.arange(6))
        assert torch.equal(BATCH[order], BATCH)
        for sample in (0, 1):
            places = torch.nonzero(sample == BATCH)[:, 0]
            assert not torch.equal(order[places], places)


def test_permuted_samples_keep_their_nodes_together_and_in_order() -> None:
    for seed in range(20):
        order, batch = permute_samples(BATCH, 3, seed)
        assert torch.equal(batch, batch.sort().values)
        new_number = [int(batch[order == int((sample == BATCH).nonzero()[0])]) for sample in range(3)]
        assert sorted(new_number) == [0, 1, 2]
        assert new_number != [0, 1, 2]
        for sample in range(3):
            assert torch.equal(order[batch == new_number[sample]], torch.nonzero(sample == BATCH)[:, 0])


def test_replacing_the_others_keeps_one_sample_and_changes_every_other_entry() -> None:
    x = torch.randn(6, 4)
    new = replace_other_samples(x, BATCH, 1)
    assert torch.equal(new[BATCH == 1], x[BATCH == 1])
    assert (new != x)[BATCH != 1].all()


def test_pools_number_the_entries_that_share_a_parameter() -> None:
    x = torch.zeros(6, 4)
    assert pools(x, BATCH, ()).unique().tolist() == [0]
    assert torch.equal(pools(x, BATCH, ("sample",)), BATCH[:, None].expand(6, 4))
    assert torch.equal(pools(x, BATCH, ("channel",)), torch.arange(4).expand(6, 4))
    assert torch.equal(pools(x, BATCH, ("sample", "group"), groups=2)[:2], torch.tensor([[0, 0, 1, 1], [2, 2, 3, 3]]))
    assert pools(x, BATCH, ("field",), irreps="0e+1o")[0].tolist() == [0, 1, 1, 1]
    assert pools(torch.zeros(6, 2, 3), BATCH, ("field",))[0].tolist() == [[0, 0, 0], [1, 1, 1]]
    with pytest.raises(ValueError, match="'field' is unknown here"):
        pools(x, BATCH, ("field",))


def test_shifts_and_scales_are_constant_on_a_pool_and_differ_between_pools() -> None:
    x = torch.randn(6, 4, dtype=torch.float64)
    pool = pools(x, BATCH, ("sample", "channel"))
    for changed, number in ((shifted(x, pool) - x, 12), (scaled(x, pool) / x, 12)):
        found = {(int(p), round(float(value), 9)) for p, value in zip(pool.flatten(), changed.flatten(), strict=True)}
        assert len(found) == number
        assert len({value for _, value in found}) == number
    factor = scaled(x, pool) / x
    assert factor.min() > 0.49
    assert factor.max() < 2.01
