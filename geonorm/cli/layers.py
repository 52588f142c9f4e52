"""The commands about layers: print the table, check a layer, recommend one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from geonorm.cli.words import literal, pair


@click.command()
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


@click.command()
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
        keywords = dict(pair(option) for option in options)
        made = _found(layer)(*map(literal, arguments), **keywords)
        report = measure(made, inputs, outputs, task=TASKS[task_name], vectors=vectors)
    except (ValueError, TypeError, RuntimeError) as error:
        # Not a verdict: another exit status than that of a layer that is no match.
        raise click.UsageError(str(error)) from error
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report)
    raise SystemExit(0 if report.matched else 1)


@click.command()
@click.argument("task_name", metavar="TASK")
@click.option("--vectors", is_flag=True, help="For features that turn with the sample; without it for scalars.")
def recommend(task_name: str, vectors: bool) -> None:
    """List the rows that match TASK (energy, forces, "set regression", ...) and why the others do not."""
    from geonorm.guide import recommend as rows_for
    from geonorm.match.tasks import TASKS

    if task_name not in TASKS:
        raise click.UsageError(f"no task is called {task_name!r}: choose one of {', '.join(TASKS)}")
    click.echo(rows_for(TASKS[task_name], "vectors" if vectors else "scalars"))


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
