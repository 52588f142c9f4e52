"""The commands that repeat the experiments of the survey, one file each."""

from __future__ import annotations

import click

from geonorm.cli.reproduce import figure1, figure2_gemnet, figure2_schnet, swap


@click.group("reproduce")
def group() -> None:
    """Repeat an experiment of the survey."""


for experiment in (figure1, figure2_schnet, figure2_gemnet, swap):
    group.add_command(experiment.command)
