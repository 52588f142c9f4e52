"""Time our layers against the published ones and against a copy of the tensor, on the CPU or on a CUDA device.

Every layer is first checked to compute the same as its peer: output, gradient and gradient of the gradient. Then both
take turns with a plain copy in one process of one thread, and the medians of the process CPU time are written to
``benchmarks/results/cpu.csv`` with the words on the machine. A copy reads and writes the tensor once: no layer can be
faster than one copy forward, one and a half backward, two and a half in the double backward (a graph that no cache
holds is read twice: one and a half, two and a half, four). One row for each layer, peer, batch and mode.

    python benchmarks/run.py                                all, two to three minutes on an idle machine
    python benchmarks/run.py --threads 2                    wall time of two threads, on an idle machine only
    python benchmarks/run.py --layers GraphNorm --cases mol2000 --output /tmp/one.csv
    GEONORM_KERNELS=analytic python benchmarks/run.py       our layers without the compiled kernels
    python benchmarks/run.py --device cuda                  events on the device, and how many kernels it ran; the file
                                                            is named after the device
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import torch
from harness import cuda
from harness.machine import TUNED_ALLOCATOR

#: No thread that waits by spinning: else the times are those of the other processes. The second one silences the
#: profiler that counts memory.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "KINETO_LOG_LEVEL": "99"}
#: What is also measured with the allocator as it comes, where large tensors are returned to the system at every step.
WITH_DEFAULT_ALLOCATOR = ("mol2000",)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="the CSV file to write, by default one in benchmarks/results")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to measure")
    parser.add_argument("--threads", type=int, default=1, help="the number of threads of torch and of our kernels")
    parser.add_argument("--layers", nargs="*", help="only these of our layers")
    parser.add_argument("--cases", nargs="*", help="only these batches")
    parser.add_argument("--samples", type=int, default=5, help="samples of each median")
    parser.add_argument("--measure", choices=["tuned", "default"], help=argparse.SUPPRESS)
    return parser.parse_args(given)


def measure(options: argparse.Namespace) -> None:
    """Measure in this process; rows go to stdout as CSV, and to stderr as they come, for people."""
    from harness import machine
    from harness.cases import CASES
    from harness.compare import compare
    from harness.pairs import PAIRS

    words = cuda.words if options.device == "cuda" else machine.words
    writer = None
    for pair in PAIRS:
        everywhere = options.measure == "tuned" or options.device == "cuda"
        cases = pair.cases if everywhere else set(pair.cases).intersection(WITH_DEFAULT_ALLOCATOR)
        for name in cases:
            if (options.layers and pair.name not in options.layers) or (options.cases and name not in options.cases):
                continue
            for row in compare(pair, CASES[name], options.samples, options.device):
                row |= words()
                if writer is None:
                    writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
                    writer.writeheader()
                writer.writerow(row)
                print(
                    f"{options.measure:8}{row['layer']:20}{name:16}{row['mode']:16}{row['ours_us']:>9} µs "
                    f"{row['peer_over_ours']:>5} × {row['peer']:23}{row['ours_over_copy']:>6} copies, "
                    f"peak {row['ours_peak']:>5} against {row['peer_peak']:>5} tensors",
                    file=sys.stderr,
                )


def file_name(options: argparse.Namespace) -> str:
    """The name of the file of results."""
    if options.device == "cuda":
        return cuda.file_name()
    return "cpu.csv" if options.threads == 1 else f"cpu_{options.threads}_threads.csv"


def main() -> None:
    options = arguments()
    if options.measure:
        measure(options)
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda needs a CUDA device and a torch that was built for it: torch finds none")
    output = options.output or Path(__file__).resolve().parent / "results" / file_name(options)
    lines: list[str] = []
    # The settings are those of the allocator of the CPU.
    for allocator in ("tuned", "default") if options.device == "cpu" else ("default",):
        environment = {name: value for name, value in os.environ.items() if name not in TUNED_ALLOCATOR} | ENVIRONMENT
        environment["OMP_NUM_THREADS"] = str(options.threads)
        if allocator == "tuned":
            environment |= TUNED_ALLOCATOR
        command = [sys.executable, __file__, "--measure", allocator, *sys.argv[1:]]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(done.returncode)
        lines += done.stdout.splitlines()[1 if lines else 0 :]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(lines) + "\n")
    print(f"{len(lines) - 1} rows in {output}")


if __name__ == "__main__":
    main()
