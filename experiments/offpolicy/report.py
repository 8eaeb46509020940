"""A report of an off-policy evaluation: what was asked, whether the log can tell, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from experiments.offpolicy.diagnostics import Overlap
from experiments.offpolicy.evaluation import Estimate, Evaluation, Verdict
from experiments.offpolicy.variation import LEAST_VARIED
from experiments.report.document import (
    Block,
    Bullets,
    Callout,
    Column,
    Document,
    Paragraph,
    Picture,
    Section,
    Table,
    Tone,
)

TONES: Mapping[Verdict, Tone] = {
    "higher": "good",
    "lower": "bad",
    "no difference seen": "plain",
    "no verdict": "warn",
}

EXPLAINED: Mapping[str, str] = {
    "DM": "what the reward model expects; its interval leaves the model's own error out",
    "IPS": "weighted rewards; unbiased, and misleading alone where weights vary",
    "SNIPS": "weighted rewards by the mean weight",
    "DR": "the model, corrected by weighted residuals; the verdict rests on it",
    "Switch-DR": "DR that leaves large weights to the model",
    "DRos": "DR with shrunk weights",
}


class Report(Struct, frozen=True, kw_only=True):
    """What was asked, what was left out, and what came of it."""

    policy: str  # in words, with its tuning
    release: str | None  # None: the log came from elsewhere
    reward: str  # in words
    unit: str  # "share", or a currency
    log: str  # where the rows came from
    since: str | None  # RFC 3339; None: the log has no times
    until: str | None
    left_out: Mapping[str, int]  # in words -> how many
    notes: tuple[str, ...]  # what a reader must know beside the figures
    evaluation: Evaluation


def document_of(report: Report, pictures: Sequence[Picture] = ()) -> Document:
    """The verdict, whether the log can tell, what was left out, then the estimates."""
    found = report.evaluation
    blocks: list[Block] = [
        Callout(
            title=_capital(found.verdict),
            tone=TONES[found.verdict],
            items=tuple(f"{_capital(one)}." for one in found.reasons),
        ),
        Section(title="Whether the log can tell", id="overlap", blocks=(_telling(found),)),
        Section(title="Left out", id="left-out", blocks=(_left_out(report),)),
        Section(
            title="Estimates",
            id="estimates",
            blocks=(*pictures, _estimates(report), Paragraph(_difference(report))),
        ),
    ]
    if report.notes:
        blocks.append(Section(title="To be known", id="notes", blocks=(Bullets(report.notes),)))
    return Document(
        title=f"Off-policy evaluation of {report.policy}",
        lede=f"Reward: {report.reward}. Log: {report.log}"
        + (f", decisions from {report.since} to {report.until}" if report.since else "")
        + (f". Release: {report.release}" if report.release else "")
        + ".",
        blocks=tuple(blocks),
        data=report,
    )


def amount(value: float | None, unit: str) -> str:
    """A figure for people; "–" for what could not be computed."""
    if value is None:
        return "–"
    return f"{value:.4f}" if unit == "share" else f"{value:,.4f} {unit}"


def _telling(found: Evaluation) -> Table:
    seen: Overlap = found.overlap
    rows = [
        ("rows", f"{seen.n_rows:,}", ""),
        ("customers", f"{seen.n_units:,}", "at least 2"),
        ("rows with another reward than most", f"{found.n_varied:,}", f"at least {LEAST_VARIED}"),
        (
            "rows the log is worth for this policy",
            f"{seen.effective_rows:,.0f}",
            "at least 200, and 1 % of the rows",
        ),
        ("largest weight", f"{seen.largest_weight:,.2f}", ""),
        ("share of the weight in one row", f"{seen.largest_share:.2%}", "at most 5 %"),
        ("mean weight", f"{seen.mean_weight:.4f} ± {seen.mean_weight_se:.4f}", "1, within 3 standard errors"),
    ]
    if seen.unsupported is not None:
        rows.append(("of its choices, never in the log", f"{seen.unsupported:.2%}", "at most 5 %"))
    columns = (Column("Of the log"), Column("Found", right=True), Column("Allowed"))
    return Table(caption="How much the log says of this policy", columns=columns, rows=tuple(rows))


def _left_out(report: Report) -> Block:
    items = tuple(f"{n:,} {words}" for words, n in report.left_out.items())
    return Bullets(items) if items else Paragraph("Nothing.")


def _estimates(report: Report) -> Table:
    found = report.evaluation
    level = f"{1 - found.alpha:.0%}"
    rows = [_row("as logged", found.logged, report.unit, "the mean reward of what was shown")]
    rows += [_row(one.estimator, one, report.unit, EXPLAINED.get(one.estimator, "")) for one in found.estimates]
    titles = ("Value", f"{level} interval", f"{level}, resampled")
    return Table(
        caption="Value of one choice, by estimator",
        columns=(Column("Estimator"), *(Column(title, right=True) for title in titles), Column("What it is")),
        rows=tuple(rows),
    )


def _row(name: str, one: Estimate, unit: str, words: str) -> tuple[str, ...]:
    return (
        name,
        amount(one.value, unit),
        _interval(one.low, one.high, unit),
        _interval(one.bootstrap_low, one.bootstrap_high, unit),
        words if one.cut is None else f"{words}, cut at {one.cut:g}",
    )


def _interval(low: float | None, high: float | None, unit: str) -> str:
    return "–" if low is None or high is None else f"{amount(low, unit)} … {amount(high, unit)}"


def _difference(report: Report) -> str:
    found = report.evaluation.difference
    if found.value is None:
        return "The difference to what was logged could not be computed."
    relative = "" if found.relative is None else f" ({found.relative:+.1%})"
    return (
        f"DR minus what was logged: {amount(found.value, report.unit)}{relative}, "
        f"interval {_interval(found.low, found.high, report.unit)}."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
