"""Two processes that share a batch get the statistics of the whole batch."""

import time

import pytest
import torch
import torch.distributed
from layers.peers import assert_equal
from two_processes import CALLS, LAYERS, PATIENCE, SPLITS, factors, outcome, survive, work

from geonorm.processes import global_sum, several_processes

SECONDS = 120


needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch was built without gloo",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What both processes found."""
    folder = tmp_path_factory.mktemp("processes")
    processes = torch.multiprocessing.start_processes(work, (str(folder),), nprocs=2, join=False)
    end = time.monotonic() + SECONDS
    while not processes.join(timeout=1):
        if time.monotonic() > end:
            for process in processes.processes:
                process.kill()
            pytest.fail(f"two processes did not finish within {SECONDS} s: they wait for each other")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@needs_gloo
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", LAYERS)
def test_two_processes_do_what_one_does(results, name, split):
    first, second = (result["layers"][name, split] for result in results)
    whole = outcome(name, split, None)
    assert first.keys() == second.keys() == whole.keys()
    for key, expected in whole.items():
        if "output" in key or key.endswith((" of x", " of g")):
            assert_equal(torch.cat([first[key], second[key]]), expected, key)  # each has its own nodes
        elif "buffer" in key:
            assert_equal(first[key], expected, key)
            assert torch.equal(first[key], second[key]), f"{key} differs between the processes"
        else:
            assert_equal(first[key] + second[key], expected, key)  # the loss is the sum of both losses
    if f"buffer {'num_batches_tracked'}" in whole:
        assert whole["buffer num_batches_tracked"] == CALLS


@needs_gloo
def test_the_gradient_of_a_sum_over_processes_is_again_one(results):
    # With t = a + b and the loss Σ t² on one process and 2 Σ t² on the other: 2 t (1 + 2), then 2 (1 + 2) (1 + 1).
    total = 2 * torch.arange(6, dtype=torch.float64).view(3, 2).T + 10
    for result in results:
        assert_equal(result["sums"]["total"], total)
        assert_equal(result["sums"]["first"], 6 * total)
        assert_equal(result["sums"]["second"], torch.full_like(total, 12.0))


@needs_gloo
def test_scale_factors_are_fitted_to_the_batches_of_all_processes(results):
    first, second = (result["factors"] for result in results)
    assert first == second
    assert first == pytest.approx(factors(None), rel=1e-12)


@needs_gloo
@pytest.mark.parametrize("fate", ["dies", "is stuck"])
def test_a_process_that_is_missing_is_an_error_for_the_other_one(tmp_path, fate):
    processes = [
        torch.multiprocessing.get_context("spawn").Process(target=survive, args=(rank, str(tmp_path), fate))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            pytest.fail(f"a process is still waiting after {SECONDS} s")
    said, seconds = torch.load(tmp_path / "said.pt")
    assert "waits in vain for the sums of the others" in said
    assert seconds > PATIENCE / 2 if fate == "is stuck" else seconds < SECONDS / 2


def test_one_process_adds_nothing():
    assert not several_processes()
    values = torch.randn(3)
    assert global_sum(values) is values
