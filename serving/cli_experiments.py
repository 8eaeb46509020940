"""`nbo experiment …`: each command reads its arguments, calls one function and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli_shared import JSON, usage_errors

experiment_app = typer.Typer(no_args_is_help=True, help="Experiments: list, plan, start, stop, decide, report.")


@experiment_app.command("list")
def experiment_list(json: JSON = False) -> None:
    """Every experiment with its state and its variants; control is marked with *."""
    from serving.commands.experiment import list_experiments

    list_experiments(as_json=json)


@experiment_app.command("plan")
def experiment_plan(
    file_or_id: Annotated[str, typer.Argument(help="A YAML file as of `nbo apply`, or an id of the catalogue.")],
    change: Annotated[
        list[float] | None, typer.Option(help="A relative change to be found, such as 0.05; may be repeated.")
    ] = None,
    power: Annotated[float, typer.Option(help="How often it is to be found, between 0 and 1.")] = 0.8,
    json: JSON = False,
) -> None:
    """How many units and days an experiment would take, by metric and change, from visitors of the last four weeks."""
    from serving.commands.experiment_plan import run

    with usage_errors():
        run(file_or_id, changes=change or (), power=power, as_json=json)


@experiment_app.command("start")
def experiment_start(experiment_id: str, json: JSON = False) -> None:
    """Start a draft: it takes buckets of its layer, and customers meet its variants from now on."""
    from serving.commands.experiment import start

    start(experiment_id, as_json=json)


@experiment_app.command("stop")
def experiment_stop(
    experiment_id: str,
    reason: Annotated[str, typer.Option(help="Why; kept with the experiment.")],
    json: JSON = False,
) -> None:
    """Stop a running experiment: everybody is answered as if it were not there."""
    from serving.commands.experiment import stop

    stop(experiment_id, _reason(reason), as_json=json)


@experiment_app.command("decide")
def experiment_decide(
    experiment_id: str,
    variant: str,
    reason: Annotated[str, typer.Option(help="Why; kept with the experiment.")],
    json: JSON = False,
) -> None:
    """Say which variant a stopped experiment was decided for; it changes nothing that customers meet."""
    from serving.commands.experiment import decide

    decide(experiment_id, variant, _reason(reason), as_json=json)


@experiment_app.command("report")
def experiment_report(
    experiment_id: Annotated[str, typer.Argument(help="`holdout` for the global holdout.")],
    out: Annotated[Path | None, typer.Option(help="A file .html, .md or .json, or a folder for all of them.")] = None,
    format: Annotated[str | None, typer.Option(help="html, md or json (left out: md, or as --out ends).")] = None,
    segment: Annotated[
        list[str] | None, typer.Option(help="Also by this customer attribute, or `known`; may be given several times.")
    ] = None,
    no_keep: Annotated[bool, typer.Option("--no-keep", help="Do not log the report to MLflow.")] = False,
    json: JSON = False,
) -> None:
    """What an experiment has shown, with a verdict; exit code 3 with an alarm, harm, or if it is not to be trusted."""
    from serving.commands.experiment_report import run

    with usage_errors():
        code = run(experiment_id, out=out, format=format, segments=segment or (), as_json=json, keep=not no_keep)
    raise typer.Exit(code)


def _reason(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("expected a reason, it is empty", param_hint="--reason")
    return text
