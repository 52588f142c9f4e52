"""The command ``geonorm``: show the table, make data, repeat a figure of the survey."""

from __future__ import annotations

import click

# Every command imports what it needs itself: `geonorm --help` must not wait for torch.
from geonorm.cli import data, layers, reproduce


@click.group()
@click.version_option(package_name="geonorm")
def main() -> None:
    """Normalization layers for equivariant neural networks."""


for command in (layers.table, layers.check, layers.recommend, data.group, reproduce.group):
    main.add_command(command)
