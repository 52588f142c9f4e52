"""``geonorm reproduce figure2-gemnet``: GemNet-T on molecular collisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geonorm.cli.reproduce.options import common, settings
from geonorm.cli.reproduce.results import finish, last_epoch, say_last
from geonorm.cli.words import messages, pair


@click.command("figure2-gemnet")
@common(
    "collisions",
    "collisions, coll:train, h2combustion:train, .npz.",
    "configurations",
    "fitted, ones, plain, batch, ...",
)
@click.option("--train", type=int, help="Training configurations.")
@click.option("--test", type=int, help="Test configurations.")
@click.option("--size", type=click.Choice(["small", "default"]), help="Of the network; default is the published one.")
@click.option("--batch-size", type=int, help="Configurations per step.")
@click.option("--learning-rate", type=float, help="Of Adam.")
@click.option("--energy-weight", type=float, help="Of the energy in the loss; the forces get the rest.")
@click.option("--raw-energies", is_flag=True, help="Subtract no constant per element.")
@click.option("--model", "options", multiple=True, help="A keyword argument of GemNet, name=value; repeat for more.")
def command(source: str, preset: str, raw_energies: bool, options: tuple[str, ...], out: Path, **given: Any) -> None:
    """Train GemNet-T with each of its normalizations; write figure2-gemnet.csv, .json and .png."""
    with messages():
        from geonorm.experiments.gemnet import PRESETS, by_stage, figure2_gemnet

        model = dict(pair(option) for option in options)
        arguments = settings(PRESETS[preset], element_energies=not raw_energies, model=model, **given)
        records = figure2_gemnet(source, out=out, **arguments)
    energy, length = records[0]["units"].split(", ")
    unit = f"{energy}/{length.replace('Ang', 'Å')}"
    click.echo(
        f"mean errors at epoch {last_epoch(records)}: force in training, test, test live ({unit}); test energy "
        f"({energy})"
    )
    say_last(records, ("train_force_mae", "test_force_mae", "test_live_force_mae", "test_energy_mae"), "10.3g")
    title, y_label = "Figure 2, GemNet: the error of the forces", f"mean force error ({unit})"
    finish(out, "figure2-gemnet", by_stage(records), "force_mae", title, y_label, "stage")
