"""The command line: each command reads its arguments, calls one function and prints.

Commands are imported when they run, so that `nbo --help` stays instant.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from serving.cli_experiments import experiment_app
from serving.cli_models import models_app
from serving.cli_shared import JSON, usage_errors

app = typer.Typer(
    name="nbo",
    help="The next best offer for each customer: features, models, decisions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
features_app = typer.Typer(no_args_is_help=True, help="Features: list, build, apply, materialize, check.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys: create, list, token, revoke.")
report_app = typer.Typer(no_args_is_help=True, help="Reports: engagement, churn.")
app.add_typer(features_app, name="features")
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
app.add_typer(experiment_app, name="experiment")
app.add_typer(report_app, name="report")


@app.command()
def demo(
    smoke: Annotated[bool, typer.Option("--smoke", help="Small, no visitors: print one decision as JSON.")] = False,
    keep: Annotated[Path | None, typer.Option("--keep", help="Keep all state in this folder.")] = None,
    visits: Annotated[int | None, typer.Option(min=0, help="End after so many visits (left out: on Ctrl-C).")] = None,
) -> None:
    """A simulated shop, end to end, with visitors to watch."""
    from serving.commands.demo import run

    raise typer.Exit(run(smoke=smoke, keep=keep, visits=visits))


@app.command()
def ingest(
    recipe_or_dir: Annotated[str, typer.Argument(metavar="[RECIPE --source DIR] | DIR")],
    source: Annotated[Path | None, typer.Option(help="The folder of raw files that the recipe reads.")] = None,
    max_refused: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of refused rows above which nothing is committed (0.01)."),
    ] = None,
    json: JSON = False,
) -> None:
    """Customers, offers and events into the lake, every row checked."""
    from serving.commands.ingest import run

    raise typer.Exit(run(recipe_or_dir, source=source, max_refused=max_refused, as_json=json))


@app.command()
def apply(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="YAML files with `offers:`, `placements:`, `contact_policies:`, `levers:`, `experiments:`."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the difference.")] = False,
    json: JSON = False,
) -> None:
    """The catalogue as YAML: print the difference to what is stored, and store it, all or nothing."""
    from serving.commands.apply import run

    raise typer.Exit(run(files, dry_run=dry_run, as_json=json))


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead.")] = None,
) -> None:
    """What the files of `nbo apply` may hold, as JSON Schema for editors."""
    from serving.commands.schema import run

    run(out)


@features_app.command("list")
def features_list(json: JSON = False) -> None:
    """Every feature: type, unit, default, time to live, description."""
    from serving.commands.features import list_features

    list_features(as_json=json)


@features_app.command("build")
def features_build(json: JSON = False) -> None:
    """Daily aggregates and snapshots of every day that is new or changed."""
    from serving.commands.features import build

    build(as_json=json)


@features_app.command("apply")
def features_apply(json: JSON = False) -> None:
    """Tell Feast the entities, views and services."""
    from serving.commands.features import apply

    apply(as_json=json)


@features_app.command("materialize")
def features_materialize(json: JSON = False) -> None:
    """The newest snapshot into the online store."""
    from serving.commands.features import materialize

    materialize(as_json=json)


@features_app.command("check")
def features_check(
    customers: Annotated[int, typer.Option(min=1, help="How many customers to compare.")] = 1000, json: JSON = False
) -> None:
    """Whether the online store says what the snapshots say, and how old it is."""
    from serving.commands.features import check

    raise typer.Exit(check(n_customers=customers, as_json=json))


@app.command()
def train(
    which: Annotated[
        Literal["recommender", "acceptance", "churn", "all"],
        typer.Argument(metavar="[recommender|acceptance|churn|all]"),
    ] = "all",
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Only when it is due, and nobody else is at it: for cron.")
    ] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Search for the best recommender and its parameters first.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(help="Of the search, beyond what a plain training tries: 90s, 10m, 2h (10m).")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes of the search (2).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last search.")] = False,
    json: JSON = False,
) -> None:
    """Fit, compare with the baseline, log to MLflow, and register as challenger."""
    from serving.commands.train import asked_for, run

    for name, given in (("--budget", budget is not None), ("--jobs", jobs is not None), ("--resume", resume)):
        if given and not search:
            raise typer.BadParameter("it belongs to --search, which was not given", param_hint=name)
    if search and which in ("acceptance", "churn"):
        raise typer.BadParameter(f"there is nothing to search for {which}", param_hint="--search")
    with usage_errors():
        asked = asked_for(budget, jobs, resume) if search else None

    def train_now() -> int:
        return run(which, seed=seed, as_json=json, search=asked)

    if if_needed:
        from serving.commands.train_if_needed import run_if_needed

        run_if_needed(train_now, as_json=json)
        return
    train_now()


@app.command()
def evaluate(
    policy: Annotated[str, typer.Argument(help="greedy, epsilon_greedy, softmax or thompson; with --log also given.")],
    release: Annotated[
        str | None, typer.Option(help="Over this release (left out: the one that made each decision).")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Of decisions from this time on, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option(help="And before this time.")] = None,
    reward: Annotated[str, typer.Option(help="accept, value, click or revenue.")] = "value",
    placement: Annotated[str | None, typer.Option(help="In this placement only.")] = None,
    most: Annotated[int, typer.Option(min=1, help="The newest decisions, at most so many.")] = 20_000,
    epsilon: Annotated[float | None, typer.Option(help="Of the candidate (left out: as configured).")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the candidate, for softmax.")] = None,
    draws: Annotated[int | None, typer.Option(help="Of the candidate, for thompson.")] = None,
    new_offer_share: Annotated[float | None, typer.Option(help="Of the candidate.")] = None,
    in_sample: Annotated[
        bool, typer.Option("--in-sample", help="Also on decisions that the release may have learned from.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="Another system's log, CSV or Parquet, instead of our own.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML that says what the columns of --log are called.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also as a file .html, .md or .json, or a folder for all.")] = None,
    json: JSON = False,
) -> None:
    """What another policy or release would have earned, from the log of what was shown."""
    from serving.commands.evaluate import run

    tuning = {"epsilon": epsilon, "temperature": temperature, "draws": draws, "new_offer_share": new_offer_share}
    if recipe is not None and log is None:
        raise typer.BadParameter("a recipe says how to read a --log", param_hint="--recipe")
    raise typer.Exit(
        run(
            policy,
            release=release,
            since=since,
            until=until,
            reward=reward,
            placement=placement,
            most=most,
            tuning={name: value for name, value in tuning.items() if value is not None},
            in_sample=in_sample,
            log=log,
            recipe=recipe,
            as_json_=json,
            out=out,
        )
    )


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8000,
    admin_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of /metrics, /livez and /readyz for operators; left out: none."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
) -> None:
    """Answer over HTTP."""
    from serving.commands.serve import run

    raise typer.Exit(run(host, port, workers, admin_port))


@keys_app.command("create")
def keys_create(
    kind: Annotated[str, typer.Option(help="secret or public")] = "secret",
    scope: Annotated[
        str | None,
        typer.Option(help="Any of decide,events,catalogue,admin. Left out: all that the kind may have."),
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Of the pages that may use a public key, such as https://shop.example; may be repeated."),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second (public keys: 1000).")] = None,
    visitor_rate: Annotated[
        float | None, typer.Option(help="Requests and events per second of one visitor (public keys: 10).")
    ] = None,
    json: JSON = False,
) -> None:
    """Make a key and print it, alone, once."""
    from serving.commands.keys import create

    with usage_errors():
        create(
            kind=kind,
            scope=scope,
            name=name,
            origins=origin or (),
            per_s=rate,
            visitor_per_s=visitor_rate,
            as_json=json,
        )


@keys_app.command("list")
def keys_list(json: JSON = False) -> None:
    """Every key by its id; the keys themselves are not stored."""
    from serving.commands.keys import list_keys

    list_keys(as_json=json)


@keys_app.command("token")
def keys_token(key_id: str, customer_id: str) -> None:
    """Print a customer_token for a public key, good for an hour, as your server would sign it."""
    from serving.commands.keys import token

    with usage_errors():
        token(key_id, customer_id)


@keys_app.command("revoke")
def keys_revoke(key_id: str) -> None:
    """End a key; workers notice within a second."""
    from serving.commands.keys import revoke

    revoke(key_id)


@app.command()
def simulate(
    arms: Annotated[
        list[str] | None,
        typer.Argument(help="What to compare: POLICY[@RELEASE][,NAME=VALUE]…, or random. The first is the base."),
    ] = None,
    visits: Annotated[int, typer.Option(min=1, help="How many.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Of visits and luck, and of a new shop.")] = 1,
    customers: Annotated[int, typer.Option(min=2, help="Of a new shop; a demo's has its own.")] = 1_000,
    offers: Annotated[int, typer.Option(min=6, help="Of a new shop.")] = 30,
    http: Annotated[bool, typer.Option("--http", help="Through a real nbo serve for each, over HTTP.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also save a picture; .png or .svg.")] = None,
    aa: Annotated[int, typer.Option(min=0, max=200, help="So many A/A tests at once, in place of policies.")] = 0,
    planted: Annotated[
        list[float] | None, typer.Option(help="An A/B test with this relative effect on acceptance; repeatable.")
    ] = None,
    json: JSON = False,
) -> None:
    """Let policies and releases live through the same visits of the demo's world, and compare what they bring.

    With --aa or --planted: run experiments whose truth is known, and see whether their analysis finds it.
    """
    from serving.commands.simulate import run, run_experiments

    size = {"n_visits": visits, "seed": seed, "n_customers": customers, "n_offers": offers}
    with usage_errors():
        if aa or planted:
            if arms or out is not None:
                raise typer.BadParameter("experiments are run without policies to compare, and without a picture")
            code = run_experiments(n_null=aa, lifts=planted or (), policy=True, http=http, as_json=json, **size)
        else:
            code = run(arms or (), http=http, out=out, as_json=json, **size)
    raise typer.Exit(code)


@app.command()
def monitor(
    since: Annotated[str, typer.Option(help="Such as 7d, 12h or an RFC 3339 time.")] = "7d",
    out: Annotated[Path | None, typer.Option(help="A file .html, .md or .json, or a folder for all of them.")] = None,
    format: Annotated[str | None, typer.Option(help="html, md or json (left out: md, or as --out ends).")] = None,
    prometheus: Annotated[
        Path | None, typer.Option(help="Also write the figures to this file, for the node exporter (.prom).")
    ] = None,
    json: JSON = False,
) -> None:
    """Drift, calibration on matured outcomes, coverage, headroom and ages, from the log; exit code 3 if one crossed."""
    from serving.commands.monitor import run

    with usage_errors():
        code = run(since=since, out=out, format=format, prometheus=prometheus, as_json=json)
    raise typer.Exit(code)


@report_app.command("engagement")
def report_engagement(
    week: Annotated[str | None, typer.Option(help="Such as 2026-W09 (left out: the last whole week).")] = None,
    out: Annotated[Path | None, typer.Option(help="A file .html, .md or .json, or a folder for all of them.")] = None,
    format: Annotated[str | None, typer.Option(help="html, md or json (left out: md, or as --out ends).")] = None,
    quotes: Annotated[int, typer.Option(min=0, max=10, help="How many texts of customers to quote.")] = 3,
    json: JSON = False,
) -> None:
    """The weekly digest: what customers did, said and took; exit code 3 if somebody should look at an experiment."""
    from serving.commands.report import engagement

    with usage_errors():
        code = engagement(week=week, out=out, format=format, quotes=quotes, as_json=json)
    raise typer.Exit(code)


@report_app.command("churn")
def report_churn(
    out: Annotated[Path | None, typer.Option(help="A file .csv, .json or .parquet (left out: CSV is printed).")] = None,
    reasons: Annotated[int, typer.Option(min=1, max=10, help="How many reasons per customer.")] = 3,
    top: Annotated[int | None, typer.Option(min=1, help="Only so many customers, the greatest losses.")] = None,
    json: JSON = False,
) -> None:
    """Who is likely to leave, why, and what is expected to go with them; one row per customer."""
    from serving.commands.at_risk import run

    with usage_errors():
        code = run(out=out, reasons=reasons, top=top, as_json=json)
    raise typer.Exit(code)


@app.command()
def doctor(json: JSON = False) -> None:
    """Check the installation and the settings, and say what to do."""
    from serving.commands.doctor import run

    raise typer.Exit(run(as_json=json))


class _Interrupts:
    """Remembers Ctrl-C, because libraries turn the KeyboardInterrupt that they meet into errors of their own."""

    def __init__(self) -> None:
        self.seen = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt


def main() -> None:
    """Errors that we raise on purpose are one line and exit code 1; wrong usage is 2, Ctrl-C 130."""
    from features.errors import NboError

    interrupts = _Interrupts()
    try:
        app()
    except SystemExit as end:
        if end.code == 130 and interrupts.seen:
            print("nbo: interrupted", file=sys.stderr)
        raise
    except (Exception, KeyboardInterrupt) as error:
        if interrupts.seen:
            print("nbo: interrupted", file=sys.stderr)
            sys.exit(130)
        said = _home_fault(error) or (str(error) if isinstance(error, NboError) else None)
        if said is None:
            raise
        print(f"nbo: {said}", file=sys.stderr)
        sys.exit(1)


def _home_fault(error: BaseException) -> str | None:
    """What is wrong with NBO_HOME, if that is why: it cannot be made, entered or written."""
    from features.errors import StoreUnavailable

    home = Path(os.environ.get("NBO_HOME") or ".nbo").expanduser().absolute()
    if isinstance(error, OSError) and error.filename is not None:
        at = Path(os.fsdecode(error.filename)).absolute()
        if at == home or at in home.parents or (home in at.parents and not os.access(home, os.W_OK | os.X_OK)):
            return f"NBO_HOME is {home}, which cannot be used: {error.strerror}: {at}"
    unopened = isinstance(error, (sqlite3.OperationalError, StoreUnavailable, NotADirectoryError))
    if unopened and not (home.is_dir() and os.access(home, os.W_OK)):
        return f"NBO_HOME is {home}, which cannot be used: {error}"
    return None
