"""`nbo evaluate`: what another policy would have earned, by our own log or another's; and the gate of a promotion."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.offpolicy.evaluation import Evaluation
from experiments.offpolicy.gate import Gate, no_verdict, off_policy_gate
from experiments.offpolicy.logged import Logged
from experiments.offpolicy.report import Report, document_of
from experiments.report.document import Document, Picture
from experiments.report.render import as_files, format_of, render, write
from features.errors import BadInput, NboError
from features.events import from_us, parse_time, to_us
from features.facts import Facts
from features.sqlite_log import SqliteLog
from serving.evaluation.candidates import AS_LOGGED, TUNING, Candidate
from serving.evaluation.choices import LEFT_OUT, MOST_DECISIONS, ChoiceLog, Wanted, read_choices
from serving.evaluation.outcomes import Reward, reward_named
from serving.settings import Settings, load_settings

GATE_DECISIONS = 10_000  # a promotion waits for no more
ONE_STEP = (
    "The value is of one choice at a time: what a choice does to later ones, through caps, budgets or what is learned, "
    "is not in it."
)


def run(
    policy: str,
    *,
    release: str | None = None,
    since: str | None = None,
    until: str | None = None,
    reward: str = "value",
    placement: str | None = None,
    most: int = MOST_DECISIONS,
    tuning: Mapping[str, float] | None = None,
    in_sample: bool = False,
    log: Path | None = None,
    recipe: Path | None = None,
    as_json_: bool = False,
    out: Path | None = None,
) -> int:
    """Prints the report; exit code 0. `BadInput` and `BadSettings` name what cannot be evaluated."""
    settings = load_settings()
    tuned = {name: getattr(settings, name) for name in TUNING} | dict(tuning or {})
    wanted = format_of(out, None, "json" if as_json_ else "md")
    if log is not None:
        report, logged = _of_file(policy, tuned, log, recipe)
    else:
        report, logged = _of_our_log(settings, policy, tuned, release, since, until, reward, placement, most, in_sample)
    drawn = _pictures(report.evaluation, logged, report.unit) if out is not None or release is not None else ()
    document = document_of(report, drawn)
    if out is not None:
        write(document, out, "off-policy", wanted)
    if release is not None and log is None:
        _keep(settings, release, report, document)
    print(render(document, "json" if as_json_ else "md").decode().rstrip("\n"))
    return 0


def promotion_gate(settings: Settings) -> Callable[[str, str], Gate]:
    """What a promotion asks: (challenger, champion), both exported -> whether the log lets the challenger pass, with
    the policy that is configured."""

    def gate(challenger: str, champion: str) -> Gate:
        facts = Facts(settings.home.facts_db)
        try:
            return _judged(settings, facts, challenger, champion)
        except NboError as error:  # a log that cannot say anything blocks nothing
            return no_verdict(str(error))
        finally:
            facts.close()

    return gate


def _judged(settings: Settings, facts: Facts, challenger: str, champion: str) -> Gate:
    tuning = {name: getattr(settings, name) for name in TUNING}
    wanted = Wanted(
        (Candidate(settings.policy, challenger, tuning), Candidate(settings.policy, champion, tuning)),
        reward_named("value"),
        most=GATE_DECISIONS,
        not_before_us=_data_end_us(settings, champion),
    )
    read = _read(settings, facts, wanted)
    return off_policy_gate(read.logged, read.tables[1], beforehand=read.beforehand)


def _read(settings: Settings, facts: Facts, wanted: Wanted) -> ChoiceLog:
    if not settings.home.log_db.exists():
        raise BadInput("the log holds no decision to evaluate: nothing was served yet", "log")
    log = SqliteLog(settings.home.log_db)
    try:
        return read_choices(settings, facts, log, wanted, _progress())
    finally:
        log.close()


def _of_our_log(
    settings: Settings,
    policy: str,
    tuning: Mapping[str, float],
    release: str | None,
    since: str | None,
    until: str | None,
    reward: str,
    placement: str | None,
    most: int,
    in_sample: bool,
) -> tuple[Report, Logged]:
    from experiments.offpolicy.evaluation import evaluate

    candidate, kind = Candidate(policy, release or AS_LOGGED, tuning), reward_named(reward)
    trained_us = None
    if release is not None:
        _make_present(settings, release)
        trained_us = _data_end_us(settings, release)
    wanted = Wanted(
        (candidate,),
        kind,
        since=_time(since, "since"),
        until=_time(until, "until"),
        placement=placement,
        most=most,
        not_before_us=None if in_sample else trained_us,
    )
    facts = Facts(settings.home.facts_db)
    try:
        read = _read(settings, facts, wanted)
    finally:
        facts.close()
    found = evaluate(read.logged, beforehand=read.beforehand)
    report = Report(
        policy=_in_words(policy, tuning),
        release=release or "the one that made each decision",
        reward=kind.title,
        unit=_unit(kind, read.currency),
        log="our own",
        since=from_us(read.since_us).isoformat(),
        until=from_us(read.until_us).isoformat(),
        left_out={LEFT_OUT[name]: n for name, n in read.left_out.items()},
        notes=tuple(_notes(read, in_sample and trained_us is not None and read.since_us < trained_us)),
        evaluation=found,
    )
    return report, read.logged


def _of_file(policy: str, tuning: Mapping[str, float], path: Path, recipe: Path | None) -> tuple[Report, Logged]:
    from experiments.offpolicy.evaluation import evaluate
    from experiments.offpolicy.recipe import read_log, read_recipe
    from serving.evaluation.outside import GIVEN, outside_candidate

    columns = read_recipe(recipe)
    outside = read_log(path, columns)
    logged = outside_candidate(outside, policy, tuning)
    learned = (
        f"The policy learned from the first {outside.later.start:,} rows and was judged on the later ones. Every "
        "action of the log counts as eligible in every row."
    )
    report = Report(
        policy="the candidate whose chances stand in the log" if policy == GIVEN else _in_words(policy, tuning),
        release=None,
        reward=f"mean of {columns.reward}",
        unit="per row",
        log=path.name,
        since=None,
        until=None,
        left_out={} if policy == GIVEN else {"that the policy learned from": outside.later.start},
        notes=(*(() if policy == GIVEN else (learned,)), *_of_nobody(outside.n_without_unit, columns.unit)),
        evaluation=evaluate(logged),
    )
    return report, logged


def _of_nobody(n_rows: int, column: str | None) -> tuple[str, ...]:
    if not n_rows:
        return ()
    return (
        f"{n_rows:,} rows have no {column}: each counts as a customer of its own, as if independent of the others.",
    )


def _notes(read: ChoiceLog, in_sample: bool) -> list[str]:
    notes = [ONE_STEP]
    if in_sample:
        notes.append("Part of the log is what this release learned from: its value is flattered.")
    if read.n_older:
        notes.append(f"{read.n_older:,} older decisions were not looked at (--most).")
    if read.n_degraded:
        notes.append(f"{read.n_degraded:,} rows are of decisions that were degraded; their chances are what they were.")
    if read.n_unseen:
        notes.append(f"{read.n_unseen:,} rows have no impression in the log; they count, as nothing earned.")
    return notes


def _in_words(policy: str, tuning: Mapping[str, float]) -> str:
    of = {"greedy": (), "softmax": ("epsilon", "temperature"), "thompson": ("epsilon", "draws")}
    named = [f"{name} {tuning[name]:g}" for name in of.get(policy, ("epsilon",)) if name in tuning]
    return f"{policy} ({', '.join(named)})" if named else policy


def _unit(reward: Reward, currency: str) -> str:
    return currency if reward.unit == "currency" else "share"


def _time(text: str | None, name: str) -> datetime | None:
    return None if text is None else parse_time(text, name)


def _data_end_us(settings: Settings, release: str) -> int | None:
    """The end of the data that a release was trained on; None if it does not say."""
    from training.scorers import load_release

    as_of = load_release(settings.home.releases / release).manifest.get("as_of")
    return None if not as_of else to_us(parse_time(str(as_of), "as_of"))


def _make_present(settings: Settings, release: str) -> None:
    """Its files under NBO_HOME, exported if it is registered only; `NotFound` if it is neither."""
    if not (settings.home.releases / release / "manifest.json").exists():
        from training.registry import exported

        exported(settings.home, release)


def _pictures(found: Evaluation, logged: Logged, unit: str) -> tuple[Picture, ...]:
    from experiments.offpolicy.plots import pictures

    return pictures(found, logged.weights, unit)


def _keep(settings: Settings, release: str, report: Report, document: Document) -> None:
    """The report as a run of MLflow beside the release."""
    from training.tracking import log_report, tracking

    found = report.evaluation
    figures: dict[str, Any] = {"effective_rows": found.overlap.effective_rows, "mean_weight": found.overlap.mean_weight}
    for one in (found.logged, *found.estimates):
        for name, value in (("value", one.value), ("low", one.low), ("high", one.high)):
            figures[f"{one.estimator.lower().replace('-', '_')}_{name}"] = value
    tags = {"kind": "off_policy", "release": release, "policy": report.policy, "verdict": found.verdict}
    with tracking(settings.home) as client:
        known = {name: float(value) for name, value in figures.items() if value is not None}
        log_report(client, f"off-policy: {report.policy}", tags, known, as_files(document, "report"))


def _progress() -> Callable[[int, int], None]:
    if not sys.stderr.isatty():
        return lambda done, of: None
    began = time.monotonic()

    def show(done: int, of: int) -> None:
        took = time.monotonic() - began
        print(f"\r\x1b[K{took:6.1f} s  {done:,} of {of:,} decisions", end="", file=sys.stderr, flush=True)

    return show
