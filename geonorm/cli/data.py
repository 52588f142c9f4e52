"""The commands that make the small sets of the book."""

from __future__ import annotations

from pathlib import Path

import click

from geonorm.cli.words import messages


@click.group("data")
def group() -> None:
    """Make the small sets that the book runs on."""


@group.command("uracil")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write.")
@click.option("--frames", default=1200, show_default=True, help="Frames, shared evenly between the seeds.")
@click.option("--seeds", default=6, show_default=True, help="Independent trajectories, seeds 0, 1, ...")
@click.option("--temperature", default=500.0, show_default=True, help="In kelvin.")
@click.option("--stride", default=200, show_default=True, help="Steps of 0.5 fs between two frames.")
@click.option("--warmup", default=4000, show_default=True, help="Steps before the first frame.")
def uracil(out: Path, frames: int, seeds: int, temperature: float, stride: int, warmup: int) -> None:
    """Sample uracil by GFN2-xTB molecular dynamics (about 15 minutes on one core; continues after a stop)."""
    with messages():
        from geonorm.data import make_uracil

        made = make_uracil(out, frames, range(seeds), temperature, stride=stride, warmup=warmup)
    click.echo(f"{out}: {made}")


@group.command("collisions")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write, in COLL's layout.")
@click.option("--trajectories", default=820, show_default=True, help="Collisions; 820 shoot every pair once.")
@click.option("--seed", default=0, show_default=True, help="Of orientations, energies and impact parameters.")
@click.option("--processes", default=2, show_default=True, help="How many work at once; the result is the same.")
def collisions(out: Path, trajectories: int, seed: int, processes: int) -> None:
    """Shoot small molecules at each other under GFN2-xTB (10 minutes on two cores; continues after a stop)."""
    with messages():
        from geonorm.data import make_collisions

        made = make_collisions(out, trajectories, seed, processes=processes)
    click.echo(f"{out}: {made}")


@group.command("couplings")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write.")
@click.option("--molecules", type=int, help="How many of the list to try, the cheapest first; without it all.")
@click.option("--heavy", default=4, show_default=True, help="The most C, N, O and F atoms in a molecule.")
@click.option("--processes", default=2, show_default=True, help="How many work at once; the result is the same.")
def couplings(out: Path, molecules: int | None, heavy: int, processes: int) -> None:
    """Compute scalar couplings of small molecules by B3LYP (an hour on two cores; continues after a stop)."""
    with messages():
        from geonorm.data import make_couplings

        made = make_couplings(out, molecules, heavy, processes)
    click.echo(f"{out}: {made}")
