"""What is measured of the network of a run before and after its training, and kept beside its errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from geonorm.experiments.records import read_records, write_records
from geonorm.experiments.sizes import Errors, layer_sizes
from geonorm.experiments.symmetry import symmetry_errors
from geonorm.models.backbone.constants import entries_of

#: What the files are called: ``depth.csv`` in the folder of a run, ``<experiment>-depth.csv`` beside the result.
KINDS = ("depth", "symmetry")


@contextmanager
def measured(
    network: nn.Module, batch: Any, errors: Errors, epochs: int, folder: Path | None, about: Mapping[str, Any]
) -> Iterator[None]:
    """Measure a network when the block is entered and when it is left, and write both into the folder of its run.

    ``depth.csv`` has the sizes of activations and gradients of every layer (:func:`layer_sizes`) before and after;
    ``symmetry.csv`` has the errors of the symmetries (:func:`symmetry_errors`) after, where the batch has the four
    molecules that they take. A block that raises writes nothing.

    Args:
        network: What is trained in the block.
        batch: What it is measured on, on its device.
        errors: What is minimized is its ``"loss"``.
        epochs: How long it is trained, the ``epoch`` of what is measured afterwards.
        folder: Of the run; None measures nothing.
        about: Columns in front: the variant and the seed. What is measured under the name of one of them gets ``_size``
            behind its own.

    Yields:
        Nothing.
    """
    if folder is None:
        yield
        return
    device = next(network.parameters()).device
    depth = [{"epoch": 0, **size} for size in layer_sizes(network, batch, errors)]
    yield
    # Lightning hands a network back on the CPU.
    network.to(device)
    if epochs:
        depth += [{"epoch": epochs, **size} for size in layer_sizes(network, batch, errors)]
    enough = int(entries_of(batch)["batch"].max()) >= 3
    symmetry = [{"epoch": epochs, **error} for error in symmetry_errors(network, batch)] if enough else []
    for kind, records in zip(KINDS, (depth, symmetry), strict=True):
        if records:
            named = [{f"{key}_size" if key in about else key: x for key, x in record.items()} for record in records]
            write_records(folder / f"{kind}.csv", [{**about, **record} for record in named])


def join_measurements(folder: Path | None, experiment: str) -> list[Path]:
    """Write the measurements of all runs into one file of each kind.

    Args:
        folder: Of the experiment; None joins nothing.
        experiment: What its files are called.

    Returns:
        The files.
    """
    written = []
    for kind in KINDS:
        parts = [] if folder is None else sorted((folder / "runs").glob(f"*/{kind}.csv"))
        if parts:
            written.append(folder / f"{experiment}-{kind}.csv")
            write_records(written[-1], [record for part in parts for record in read_records(part)])
    return written
