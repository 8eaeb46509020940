"""`nbo models …`: each command reads its arguments, calls one function and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli_shared import JSON, usage_errors

models_app = typer.Typer(no_args_is_help=True, help="Releases: list, compare, promote, rollback, history, shadow.")


@models_app.command("list")
def models_list(json: JSON = False) -> None:
    """Every registered version with its metrics and aliases."""
    from serving.commands.models import list_models

    list_models(as_json=json)


@models_app.command("promote")
def models_promote(
    release: Annotated[str, typer.Argument(help="A release number, or the challenger.")] = "challenger",
    force: Annotated[bool, typer.Option("--force", help="Promote although a gate refuses; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the history.")] = None,
    json: JSON = False,
) -> None:
    """Export a release and make it the champion that the service answers with."""
    from serving.commands.models import promote

    if force and not (reason or "").strip():
        raise typer.BadParameter("a forced promotion needs a --reason", param_hint="--force")
    promote(release, force=force, reason=reason, as_json=json)


@models_app.command("gates")
def models_gates(json: JSON = False) -> None:
    """The bounds that a promotion is held to, as a gates.toml."""
    from serving.commands.models import gates

    gates(as_json=json)


@models_app.command("compare")
def models_compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A release number, or champion, challenger, shadow.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one: differences are B minus A.")],
    out: Annotated[Path | None, typer.Option(help="A file .html, .md or .json, or a folder for all of them.")] = None,
    format: Annotated[str | None, typer.Option(help="html, md or json (left out: md, or as --out ends).")] = None,
    json: JSON = False,
) -> None:
    """Two releases side by side: metrics with intervals, slices, latency, size, data and parameters."""
    from serving.commands.models_compare import compare

    with usage_errors():
        compare(first, second, out=out, format=format, as_json=json)


@models_app.command("report")
def models_report(
    release: Annotated[str, typer.Argument(help="A release number, or champion, challenger.")] = "challenger",
    against: Annotated[str, typer.Option(help="The release that it is compared with.")] = "champion",
    out: Annotated[Path | None, typer.Option(help="A folder for Markdown, JSON and pictures.")] = None,
    json: JSON = False,
) -> None:
    """How a release ranks for the customers of the log: every figure with its interval, by segment."""
    from serving.commands.models_report import report

    report(release, against=against, out=out, as_json=json)


@models_app.command("rollback")
def models_rollback(
    to: Annotated[
        str | None, typer.Option(help="A release that was champion before (left out: the one before this).")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the history.")] = None,
    json: JSON = False,
) -> None:
    """Let the former champion serve again, without asking gates."""
    from serving.commands.models_history import rollback

    rollback(to, reason=reason, as_json=json)


@models_app.command("history")
def models_history(
    at: Annotated[str | None, typer.Option(help="Who was champion at this time, RFC 3339.")] = None,
    json: JSON = False,
) -> None:
    """Who made which release champion, shadow or challenger, when, and why."""
    from serving.commands.models_history import history

    with usage_errors():
        history(at=at, as_json=json)


@models_app.command("export")
def models_export(
    release: Annotated[str, typer.Argument(help="A release number.")],
    json: JSON = False,
) -> None:
    """Write a release's files without making it champion, so that a variant of an experiment can be it."""
    from serving.commands.models import export

    export(release, as_json=json)


@models_app.command("shadow")
def models_shadow(
    release: Annotated[
        str | None, typer.Argument(help="A release number, or challenger. Left out: how the shadow compares.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="No shadow any more.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the history.")] = None,
    json: JSON = False,
) -> None:
    """Score a release beside the champion on a share of the traffic, and show it to nobody."""
    from serving.commands.models import shadow, shadow_report

    if off and release is not None:
        raise typer.BadParameter("give a release or --off, not both", param_hint="--off")
    if release is None and not off:
        shadow_report(as_json=json)
    else:
        shadow(release, reason=reason, as_json=json)
