"""``geonorm reproduce figure1``: Allegro on uracil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geonorm.cli.reproduce.options import common, settings
from geonorm.cli.reproduce.results import finish, last_epoch, say_last
from geonorm.cli.words import messages


@click.command("figure1")
@common("uracil", "uracil, md17:<molecule>, or a .npz file.", "frames", "all, none, no shift, ...")
@click.option("--train", type=int, help="Training frames.")
@click.option("--test", type=int, help="Test frames.")
@click.option("--energy-unit", help="Convert the data first: eV, meV, kcal/mol.")
def command(source: str, preset: str, out: Path, **given: Any) -> None:
    """Train Allegro with and without its normalizers; write figure1.csv, .json and .png."""
    with messages():
        from geonorm.experiments.allegro import PRESETS, figure1

        records = figure1(source, out=out, **settings(PRESETS[preset], **given))
    energy, length = records[0]["units"].split(", ")
    click.echo(
        f"mean squared test errors of total energy and force component, epoch {last_epoch(records)}, units "
        f"{records[0]['units']}"
    )
    say_last(records, ("test_energy_mse", "test_force_mse"), "10.2e")
    rows = [
        {**record, "stage": title, "loss": record[f"{stage}_loss"]}
        for stage, title in {"train": "training", "test": "test"}.items()
        for record in records
    ]
    y_label = f"loss ({energy}², forces per {length.replace('Ang', 'Å')}²)"
    finish(out, "figure1", rows, "loss", "Figure 1, Allegro: the loss in training and test", y_label, "stage")
