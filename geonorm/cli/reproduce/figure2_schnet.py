"""``geonorm reproduce figure2-schnet``: the cited SchNet on scalar couplings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geonorm.cli.reproduce.options import common, settings
from geonorm.cli.reproduce.results import finish, last_epoch, say_last
from geonorm.cli.words import messages


@click.command("figure2-schnet")
@common("couplings", "couplings, champs, a folder, a .npz.", "molecules", "batch, none, a row of the tables")
@click.option("--activation", "activations", multiple=True, help="softplus, shifted softplus; repeat for both.")
@click.option("--width", type=int, help="Channels of the network; 512 in the cited code.")
@click.option("--batch-size", type=int, help="Molecules per step.")
@click.option("--same-size", is_flag=True, help="Batches of molecules of one size, as in the cited code.")
@click.option("--molecules", type=int, help="How many of the set to use.")
def command(source: str, preset: str, out: Path, **given: Any) -> None:
    """Train the cited SchNet with and without its BatchNorm; write figure2-schnet.csv, .json and .png."""
    with messages():
        from geonorm.experiments.schnet import PRESETS, figure2_schnet

        records = figure2_schnet(source, out=out, **settings(PRESETS[preset], **given))
    click.echo(
        f"mean absolute errors at epoch {last_epoch(records)} in Hz: loss in training, loss and constants in the test"
    )
    errors = ("train_loss", "test_loss", "test_mae")
    say_last(records, errors, "8.2f", lambda record: f"{record['activation']}, {record['normalization']}", width=32)
    title, y_label = "Figure 2, SchNet: the loss in training", "mean absolute error (Hz)"
    finish(out, "figure2-schnet", records, "train_loss", title, y_label, "activation")
