"""``geonorm reproduce swap``: every row of the tables in one network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from geonorm.cli.reproduce.options import common, settings
from geonorm.cli.reproduce.results import last_epoch, say_last
from geonorm.cli.words import messages, pair

#: The targets and what the error of each is; as in the experiment, which is not imported before it runs.
TARGETS = {"forces": "mean force error", "couplings": "mean coupling error"}
#: Stands for the set that is shipped with the library for each target.
SHIPPED = "shipped"


@click.command("swap")
@common(
    SHIPPED,
    "shipped: that of each target; or for one target what figure2-gemnet and figure2-schnet take.",
    "molecules",
    "none, or any row of the tables",
)
@click.option("--target", "targets", type=click.Choice([*TARGETS]), multiple=True, help="Without it both.")
@click.option("--train", type=int, help="Training molecules.")
@click.option("--test", type=int, help="Test molecules.")
@click.option("--batch-size", type=int, help="Molecules per step.")
@click.option("--learning-rate", type=float, help="Of Adam at the start.")
@click.option("--decay", type=float, help="What the learning rate is multiplied by after every epoch.")
@click.option("--energy-weight", type=float, help="Of the energy in the loss of forces; the forces get the rest.")
@click.option("--model", "options", multiple=True, help="A keyword argument of Backbone, name=value; repeat for more.")
def command(
    source: str, preset: str, targets: tuple[str, ...], options: tuple[str, ...], out: Path, **given: Any
) -> None:
    """Train one equivariant network with every row in the same place; write swap.csv, .json and .png.

    A later call with equal settings continues, and may name further rows, seeds or targets.
    """
    chosen = targets or tuple(TARGETS)
    if source != SHIPPED and len(chosen) > 1:
        raise click.UsageError(f"--data {source} is a set of one target: name it, --target forces or couplings")
    with messages():
        from geonorm.experiments.swap import PRESETS, swap_rows
        from geonorm.experiments.swap_results import gather

        model = dict(pair(option) for option in options)
        for target in chosen:
            arguments = settings(PRESETS[preset][target], model=model, **given)
            records = swap_rows(target, None if source == SHIPPED else source, out=out / target, **arguments)
            click.echo(f"{_label(out, target)} at epoch {last_epoch(records)}: training, test, test live")
            say_last(records, ("train_error", "test_error", "test_live_error"), "10.3g", width=26)
        records = gather(out)
    files = [out / "swap.csv", out / "swap.json", *_drawn(out, records)]
    click.echo(f"wrote {', '.join(str(path) for path in files)}")


def _label(out: Path, target: str) -> str:
    """What the error of a target is, with the unit of its data."""
    energy, *length = json.loads((out / target / "swap.json").read_text())["units"].split(", ")
    return f"{TARGETS[target]} ({'/'.join([energy, *length]).replace('Ang', 'Å')})"


def _drawn(out: Path, records: list[dict]) -> list[Path]:
    """Draw the last errors of each target in order; without matplotlib say so instead."""
    try:
        from matplotlib import pyplot

        from geonorm.experiments.summary import final_errors
        from geonorm.viz import figure, use_style
        from geonorm.viz.ranking import ranking
        from geonorm.viz.style import png
    except ImportError:
        click.echo("no figure: it needs matplotlib, pip install 'geonorm[book]'")
        return []
    found = {target: [r for r in records if r["target"] == target] for target in TARGETS}
    shown = {target: final_errors(rows, "test_error") for target, rows in found.items() if rows}
    rows = max(len(errors) for errors in shown.values())
    with pyplot.rc_context():
        use_style()
        title = "Every row in the same network: test errors after training"
        fig, axes = figure(title, width=6 * len(shown), height=2 + 0.25 * rows, columns=len(shown))
        for ax, (target, errors) in zip([axes] if len(shown) == 1 else axes, shown.items(), strict=True):
            ranking(ax, errors, x_label=_label(out, target), reference="none" if "none" in errors else None)
        (out / "swap.png").write_bytes(png(fig))
        pyplot.close(fig)
    return [out / "swap.png"]
