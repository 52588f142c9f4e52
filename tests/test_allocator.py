"""The settings of the allocator, in a process of its own: they cannot be taken back."""

import os
import platform
import subprocess
import sys

import pytest

import geonorm as gn

#: Counts the pages that the system had to fetch for a chain of large temporary tensors, in the best of some rounds:
#: where the heap begins differs from process to process, and a round may find its blocks cut in another way.
FAULTS = """
import resource, torch
import geonorm as gn
torch.set_num_threads(1)
x = torch.randn(10_000_000)
{call}
rounds = []
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        a = x + 1; b = a * 2; c = b - x
    rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(rounds))
"""


def faults(call: str) -> int:
    command = [sys.executable, "-W", "ignore", "-c", FAULTS.format(call=call)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_is_kept() -> None:
    kept, given_back = faults("assert gn.tune_allocator()"), faults("")
    assert kept < 100
    assert given_back > 10 * max(kept, 1)


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert gn.tune_allocator() is False
