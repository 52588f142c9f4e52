"""The options that all experiments have, and how they change a preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

#: What :func:`settings` has to leave to the preset: options that were not given.
ABSENT = (None, ())
PRESET = "Sizes of all: quick for a laptop, full for a GPU."
OUT = "Folder of the results; continues there."


def common(data: str, data_help: str, samples: str, names_help: str) -> Callable[[Callable], Callable]:
    """Give a command the options of every experiment: data, sizes, seeds, normalizations, place.

    The command gets them as ``source``, ``preset``, ``epochs``, ``seeds``, ``chosen``, ``names``, ``device``, ``out``
    and ``progress``.

    Args:
        data: The set that is taken when none is named.
        data_help: Which sets there are.
        samples: What an epoch passes over.
        names_help: Which normalizations there are.

    Returns:
        A decorator; put it above the options of the experiment's own.
    """
    one = dict(multiple=True)
    options = (
        click.option("--data", "source", default=data, show_default=True, help=data_help),
        click.option("--preset", type=click.Choice(["quick", "full"]), default="quick", show_default=True, help=PRESET),
        click.option("--epochs", type=int, help=f"Passes over the training {samples}."),
        click.option("--seeds", type=int, help="How many seeds: 0, 1, ..."),
        click.option("--seed", "chosen", type=int, help="One seed; repeat for more; replaces --seeds.", **one),
        click.option("--normalization", "names", help=f"{names_help}; repeat for more.", **one),
        click.option("--device", help="cpu, cuda, ...; default: the variable GEONORM_DEVICE, else cpu."),
        click.option("--out", type=click.Path(path_type=Path), required=True, help=OUT),
        click.option("--progress/--no-progress", default=True, show_default=True),
    )

    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def settings(
    preset: Mapping[str, Any], seeds: int | None, chosen: Sequence[int], names: Sequence[str], **given: Any
) -> dict[str, Any]:
    """Return the arguments of an experiment: those of the preset, changed by the options that were given.

    Args:
        preset: Values by the name of the argument.
        seeds: How many seeds.
        chosen: Which seeds; these count if there are some.
        names: The normalizations.
        **given: Further options; None and () are those that were not given.

    Returns:
        Values by the name of the argument.
    """
    given = {"seeds": list(chosen) or seeds, "normalizations": names, **given}
    return {**preset, **{key: value for key, value in given.items() if value not in ABSENT}}
