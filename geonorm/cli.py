"""The command ``geonorm``: show the table, make data, repeat a figure of the survey."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

# Every command imports what it needs itself: `geonorm --help` must not wait for torch.


@click.group()
@click.version_option(package_name="geonorm")
def main() -> None:
    """Normalization layers for equivariant neural networks."""


@main.command()
@click.argument("names", nargs=-1)
@click.option("--after-2022", is_flag=True, help="The layers that Table 1 does not have, instead of Table 1.")
def table(names: tuple[str, ...], after_2022: bool) -> None:
    """Print Table 1 of the survey with what was found about every row.

    With NAMES, print all that is known about these rows, of either table: geonorm table GraphNorm rms_norm.
    """
    import geonorm
    from geonorm.table.mapping import UnknownRowError
    from geonorm.table.render import row_text

    try:
        rows = [geonorm.table.find(name) for name in names]
    except UnknownRowError as error:
        raise click.ClickException(str(error)) from error
    shown = [row_text(row) for row in rows] or [repr(geonorm.AFTER_2022 if after_2022 else geonorm.TABLE1)]
    click.echo("\n\n".join(shown))


@main.command()
@click.argument("layer")
@click.argument("arguments", nargs=-1)
@click.option("--inputs", required=True, help="What the columns are: irreps such as 64x0e or 8x0e+4x1o.")
@click.option("--outputs", help="The same for the output; without it as the inputs.")
@click.option("--task", "task_name", default="energy", show_default=True, help="energy, forces, set regression, ...")
@click.option(
    "--option", "options", multiple=True, help="A keyword argument of the layer, name=value; repeat for more."
)
@click.option("--vectors", is_flag=True, help="Hand the features over as [nodes, channels, 3].")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def check(
    layer: str,
    arguments: tuple[str, ...],
    inputs: str,
    outputs: str | None,
    task_name: str,
    options: tuple[str, ...],
    vectors: bool,
    as_json: bool,
) -> None:
    """Check whether LAYER, written module:Class, is a geometric match for a task.

    ARGUMENTS are those of the class, read as Python literals: geonorm check geonorm:GraphNorm 64 --inputs 64x0e.
    The exit status is 0 for a match, 1 otherwise, 2 for a mistake.
    """
    import json

    try:
        from geonorm.match.check import check as measure
        from geonorm.match.tasks import TASKS

        if task_name not in TASKS:
            raise ValueError(f"no task is called {task_name!r}: choose one of {', '.join(TASKS)}")
        keywords = dict(_pair(option) for option in options)
        made = _found(layer)(*map(_literal, arguments), **keywords)
        report = measure(made, inputs, outputs, task=TASKS[task_name], vectors=vectors)
    except (ValueError, TypeError, RuntimeError) as error:
        # Not a verdict: another exit status than that of a layer that is no match.
        raise click.UsageError(str(error)) from error
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report)
    raise SystemExit(0 if report.matched else 1)


def _found(path: str) -> Callable[..., Any]:
    """The class or function that ``module:name`` names; modules of the working folder are found too."""
    module, _, name = path.partition(":")
    if not name:
        raise ValueError(f"layer is {path!r}, expected module:Class, for example geonorm:GraphNorm")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: is {module!r} installed, or in this folder?") from error
    if not hasattr(found, name):
        raise ValueError(f"module {module!r} has no {name!r}")
    return getattr(found, name)


def _literal(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _pair(option: str) -> tuple[str, Any]:
    name, equals, value = option.partition("=")
    if not equals:
        raise ValueError(f"option is {option!r}, expected name=value")
    return name, _literal(value)


@main.command()
@click.argument("task_name", metavar="TASK")
@click.option("--vectors", is_flag=True, help="For features that turn with the sample; without it for scalars.")
def recommend(task_name: str, vectors: bool) -> None:
    """List the rows that match TASK (energy, forces, "set regression", ...) and why the others do not."""
    from geonorm.guide import recommend as rows_for
    from geonorm.match.tasks import TASKS

    if task_name not in TASKS:
        raise click.UsageError(f"no task is called {task_name!r}: choose one of {', '.join(TASKS)}")
    click.echo(rows_for(TASKS[task_name], "vectors" if vectors else "scalars"))


@main.group()
def data() -> None:
    """Make the small sets that the book runs on."""


@data.command("uracil")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write.")
@click.option("--frames", default=1200, show_default=True, help="Frames, shared evenly between the seeds.")
@click.option("--seeds", default=6, show_default=True, help="Independent trajectories, seeds 0, 1, ...")
@click.option("--temperature", default=500.0, show_default=True, help="In kelvin.")
@click.option("--stride", default=200, show_default=True, help="Steps of 0.5 fs between two frames.")
@click.option("--warmup", default=4000, show_default=True, help="Steps before the first frame.")
def uracil(out: Path, frames: int, seeds: int, temperature: float, stride: int, warmup: int) -> None:
    """Sample uracil by GFN2-xTB molecular dynamics (about 15 minutes on one core; continues after a stop)."""
    with _messages():
        from geonorm.data import make_uracil

        made = make_uracil(out, frames, range(seeds), temperature, stride=stride, warmup=warmup)
    click.echo(f"{out}: {made}")


@data.command("collisions")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write, in COLL's layout.")
@click.option("--trajectories", default=820, show_default=True, help="Collisions; 820 shoot every pair once.")
@click.option("--seed", default=0, show_default=True, help="Of orientations, energies and impact parameters.")
@click.option("--processes", default=2, show_default=True, help="How many work at once; the result is the same.")
def collisions(out: Path, trajectories: int, seed: int, processes: int) -> None:
    """Shoot small molecules at each other under GFN2-xTB (10 minutes on two cores; continues after a stop)."""
    with _messages():
        from geonorm.data import make_collisions

        made = make_collisions(out, trajectories, seed, processes=processes)
    click.echo(f"{out}: {made}")


@data.command("couplings")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npz file to write.")
@click.option("--molecules", type=int, help="How many of the list to try, the cheapest first; without it all.")
@click.option("--heavy", default=4, show_default=True, help="The most C, N, O and F atoms in a molecule.")
@click.option("--processes", default=2, show_default=True, help="How many work at once; the result is the same.")
def couplings(out: Path, molecules: int | None, heavy: int, processes: int) -> None:
    """Compute scalar couplings of small molecules by B3LYP (an hour on two cores; continues after a stop)."""
    with _messages():
        from geonorm.data import make_couplings

        made = make_couplings(out, molecules, heavy, processes)
    click.echo(f"{out}: {made}")


@main.group()
def reproduce() -> None:
    """Repeat an experiment of the survey."""


@reproduce.command("figure1")
@click.option("--data", "source", default="uracil", show_default=True, help="uracil, md17:<molecule>, or a .npz file.")
@click.option("--epochs", default=20, show_default=True, help="Passes over the training frames.")
@click.option("--seeds", default=3, show_default=True, help="How many seeds: 0, 1, ...")
@click.option("--seed", "chosen", type=int, multiple=True, help="One seed; repeat for more; replaces --seeds.")
@click.option("--train", default=200, show_default=True, help="Training frames.")
@click.option("--test", default=200, show_default=True, help="Test frames.")
@click.option("--device", help="cpu, cuda, ...; default: the variable GEONORM_DEVICE, else cpu.")
@click.option("--normalization", "names", multiple=True, help="all, none, no shift, ...; repeat for more.")
@click.option("--energy-unit", help="Convert the data first: eV, meV, kcal/mol.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results; continues there.")
@click.option("--progress/--no-progress", default=True, show_default=True)
def figure1(
    source: str,
    epochs: int,
    seeds: int,
    chosen: tuple[int, ...],
    train: int,
    test: int,
    device: str | None,
    names: tuple[str, ...],
    energy_unit: str | None,
    out: Path,
    progress: bool,
) -> None:
    """Train Allegro with and without its normalizers; write figure1.csv and figure1.json (where it comes from)."""
    with _messages():
        from geonorm.experiments.allegro import DEFAULT, figure1

        records = figure1(
            source,
            epochs=epochs,
            seeds=list(chosen) or seeds,
            train=train,
            test=test,
            device=device,
            normalizations=names or DEFAULT,
            energy_unit=energy_unit,
            out=out,
            progress=progress,
        )
    click.echo(
        f"mean squared test errors of total energy and force component, epoch {epochs}, units {records[0]['units']}"
    )
    for record in records:
        if record["epoch"] == epochs:
            errors = f"{record['test_energy_mse']:10.2e} {record['test_force_mse']:10.2e}"
            click.echo(f"{record['normalization']:>14}  seed {record['seed']}  {errors}")
    click.echo(f"wrote {out / 'figure1.csv'} and {out / 'figure1.json'}")


@reproduce.command("figure2-schnet")
@click.option("--data", "source", default="couplings", show_default=True, help="couplings, champs, a folder, a .npz.")
@click.option(
    "--preset", type=click.Choice(["quick", "full"]), default="quick", show_default=True, help="Sizes of all."
)
@click.option("--epochs", type=int, help="Passes over the training molecules.")
@click.option("--seeds", type=int, help="How many seeds: 0, 1, ...")
@click.option("--seed", "chosen", type=int, multiple=True, help="One seed; repeat for more; replaces --seeds.")
@click.option("--normalization", "names", multiple=True, help="batch, none, a row of the tables; repeat for more.")
@click.option("--activation", "activations", multiple=True, help="softplus, shifted softplus; repeat for both.")
@click.option("--width", type=int, help="Channels of the network; 512 in the cited code.")
@click.option("--batch-size", type=int, help="Molecules per step.")
@click.option("--same-size", is_flag=True, help="Batches of molecules of one size, as in the cited code.")
@click.option("--molecules", type=int, help="How many of the set to use.")
@click.option("--device", help="cpu, cuda, ...; default: the variable GEONORM_DEVICE, else cpu.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results; continues there.")
@click.option("--progress/--no-progress", default=True, show_default=True)
def figure2_schnet(
    source: str,
    preset: str,
    seeds: int | None,
    chosen: tuple[int, ...],
    names: tuple[str, ...],
    activations: tuple[str, ...],
    out: Path,
    **others: Any,
) -> None:
    """Train the cited SchNet with and without its BatchNorm; write figure2-schnet.csv, .json and .png."""
    given = {"seeds": list(chosen) or seeds, "normalizations": names, "activations": activations, **others}
    with _messages():
        from geonorm.experiments.schnet import PRESETS, figure2_schnet

        options = {**PRESETS[preset], **{key: value for key, value in given.items() if value not in (None, ())}}
        records = figure2_schnet(source, out=out, **options)
    last = max(record["epoch"] for record in records)
    click.echo(f"mean absolute errors at epoch {last} in Hz: loss in training, loss and constants in the test")
    for record in records:
        if record["epoch"] == last:
            name = f"{record['activation']}, {record['normalization']}"
            errors = " ".join(f"{record[key]:8.2f}" for key in ("train_loss", "test_loss", "test_mae"))
            click.echo(f"{name:>32}  seed {record['seed']}  {errors}")
    files = [str(out / f"figure2-schnet.{kind}") for kind in ("csv", "json")]
    title = "Figure 2, SchNet: the loss in training"
    files += _drawn(out / "figure2-schnet.png", records, "train_loss", title, "mean absolute error (Hz)", "activation")
    click.echo(f"wrote {', '.join(files)}")


@reproduce.command("figure2-gemnet")
@click.option(
    "--data",
    "source",
    default="collisions",
    show_default=True,
    help="collisions, coll:train, h2combustion:train, .npz.",
)
@click.option(
    "--preset", type=click.Choice(["quick", "full"]), default="quick", show_default=True, help="Sizes of all."
)
@click.option("--epochs", type=int, help="Passes over the training configurations.")
@click.option("--seeds", type=int, help="How many seeds: 0, 1, ...")
@click.option("--seed", "chosen", type=int, multiple=True, help="One seed; repeat for more; replaces --seeds.")
@click.option("--normalization", "names", multiple=True, help="fitted, ones, plain, batch, ...; repeat for more.")
@click.option("--train", type=int, help="Training configurations.")
@click.option("--test", type=int, help="Test configurations.")
@click.option("--size", type=click.Choice(["small", "default"]), help="Of the network; default is the published one.")
@click.option("--batch-size", type=int, help="Configurations per step.")
@click.option("--learning-rate", type=float, help="Of Adam.")
@click.option("--energy-weight", type=float, help="Of the energy in the loss; the forces get the rest.")
@click.option("--raw-energies", is_flag=True, help="Subtract no constant per element.")
@click.option("--model", "options", multiple=True, help="A keyword argument of GemNet, name=value; repeat for more.")
@click.option("--device", help="cpu, cuda, ...; default: the variable GEONORM_DEVICE, else cpu.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results; continues there.")
@click.option("--progress/--no-progress", default=True, show_default=True)
def figure2_gemnet(
    source: str,
    preset: str,
    seeds: int | None,
    chosen: tuple[int, ...],
    names: tuple[str, ...],
    raw_energies: bool,
    options: tuple[str, ...],
    out: Path,
    **others: Any,
) -> None:
    """Train GemNet-T with each of its normalizations; write figure2-gemnet.csv, .json and .png."""
    with _messages():
        from geonorm.experiments.gemnet import PRESETS, by_stage, figure2_gemnet

        given = {"seeds": list(chosen) or seeds, "normalizations": names, **others}
        given = {**PRESETS[preset], **{key: value for key, value in given.items() if value not in (None, ())}}
        model = dict(_pair(option) for option in options)
        records = figure2_gemnet(source, out=out, element_energies=not raw_energies, model=model, **given)
    last, (energy, length) = max(record["epoch"] for record in records), records[0]["units"].split(", ")
    unit = f"{energy}/{length.replace('Ang', 'Å')}"
    click.echo(f"mean errors at epoch {last}: force in training, test, test live ({unit}); test energy ({energy})")
    for record in records:
        if record["epoch"] == last:
            columns = ("train_force_mae", "test_force_mae", "test_live_force_mae", "test_energy_mae")
            errors = " ".join(f"{record[key]:10.3g}" for key in columns)
            click.echo(f"{record['normalization']:>14}  seed {record['seed']}  {errors}")
    files = [str(out / f"figure2-gemnet.{kind}") for kind in ("csv", "json")]
    title = "Figure 2, GemNet: the error of the forces"
    y_label = f"mean force error ({unit})"
    files += _drawn(out / "figure2-gemnet.png", by_stage(records), "force_mae", title, y_label, "stage")
    click.echo(f"wrote {', '.join(files)}")


def _drawn(path: Path, records: list[dict], column: str, title: str, y_label: str, panels: str) -> list[str]:
    """Draw the curves of an experiment into a file; nothing where there is no matplotlib."""
    try:
        from matplotlib import pyplot

        from geonorm.viz import curves, use_style
        from geonorm.viz.style import png
    except ImportError:
        click.echo("no figure: it needs matplotlib, pip install 'geonorm[book]'")
        return []
    with pyplot.rc_context():
        use_style()
        fig = curves(records, column, title, y_label, panels)
        path.write_bytes(png(fig))
        pyplot.close(fig)
    return [str(path)]


@contextmanager
def _messages() -> Iterator[None]:
    """Turn an error that is the user's to mend into one line instead of a traceback."""
    try:
        yield
    except (ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
