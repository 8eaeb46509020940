"""A report of an off-policy evaluation as text, Markdown, HTML that needs no network, and JSON."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from experiments.offpolicy.evaluation import Estimate, Evaluation

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


def as_json(report: Report) -> bytes:
    return msgspec.json.encode(report)


def markdown(report: Report) -> str:
    """Diagnostics first, then the verdict, then the estimates."""
    found, seen = report.evaluation, report.evaluation.overlap
    level = f"{1 - found.alpha:.0%}"
    lines = [
        f"# Off-policy evaluation of {report.policy}",
        "",
        f"Reward: {report.reward}. Log: {report.log}"
        + (f", decisions from {report.since} to {report.until}" if report.since else "")
        + (f". Release: {report.release}" if report.release else "")
        + ".",
        "",
        f"**{found.verdict[:1].upper()}{found.verdict[1:]}.** {_sentences(found.reasons)}",
        "",
        "## Whether the log can tell",
        "",
        "| | | allowed |",
        "|---|---:|---|",
        f"| rows | {seen.n_rows:,} | |",
        f"| customers | {seen.n_units:,} | |",
        f"| rows the log is worth for this policy | {seen.effective_rows:,.0f} | at least 200, and 1 % of the rows |",
        f"| largest weight | {seen.largest_weight:,.2f} | |",
        f"| share of the weight in one row | {seen.largest_share:.2%} | at most 5 % |",
        f"| mean weight | {seen.mean_weight:.4f} ± {seen.mean_weight_se:.4f} | 1, within 3 standard errors |",
    ]
    if seen.unsupported is not None:
        lines += [f"| of its choices, never in the log | {seen.unsupported:.2%} | at most 5 % |"]
    lines += ["", "## Left out", ""]
    lines += [f"- {n:,} {words}" for words, n in report.left_out.items()] or ["Nothing."]
    lines += [
        "",
        "## Estimates",
        "",
        f"| | value | {level} interval | {level}, resampled | |",
        "|---|---:|---|---|---|",
        _row("as logged", found.logged, report.unit, "the mean reward of what was shown"),
    ]
    lines += [_row(one.estimator, one, report.unit, EXPLAINED.get(one.estimator, "")) for one in found.estimates]
    lines += ["", _difference(report), ""]
    if report.notes:
        lines += ["## To be known", "", *(f"- {note}" for note in report.notes), ""]
    return "\n".join(lines)


def page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The same as one HTML file; `pictures` are PNG files by title."""
    body = _html(markdown(report))
    for title, png in pictures.items():
        source = base64.b64encode(png).decode()
        body += f'<figure><img alt="{html.escape(title)}" src="data:image/png;base64,{source}"></figure>\n'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Off-policy evaluation of {html.escape(report.policy)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}</body></html>\n"
    )


def amount(value: float | None, unit: str) -> str:
    """A figure for people; "–" for what could not be computed."""
    if value is None:
        return "–"
    return f"{value:.4f}" if unit == "share" else f"{value:,.4f} {unit}"


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.25rem .75rem;border-bottom:1px solid #ccc;text-align:left}"
    "td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}"
)


def _row(name: str, one: Estimate, unit: str, words: str) -> str:
    said = words if one.cut is None else f"{words}, cut at {one.cut:g}"
    return (
        f"| {name} | {amount(one.value, unit)} | {_interval(one.low, one.high, unit)} | "
        f"{_interval(one.bootstrap_low, one.bootstrap_high, unit)} | {said} |"
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


def _sentences(reasons: tuple[str, ...]) -> str:
    return " ".join(f"{one[:1].upper()}{one[1:]}." for one in reasons)


def _html(text: str) -> str:
    """Of Markdown, what `markdown` writes."""
    out: list[str] = []
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if not lines:
            continue
        if lines[0].startswith("#"):
            level = len(lines[0]) - len(lines[0].lstrip("#"))
            out.append(f"<h{level}>{html.escape(lines[0].lstrip('# '))}</h{level}>")
        elif lines[0].startswith("|"):
            rows = [line.strip("|").split("|") for line in lines if not re.fullmatch(r"[|:\- ]+", line)]
            cells = ["".join(f"<td>{html.escape(cell.strip())}</td>" for cell in row) for row in rows]
            out.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
        elif lines[0].startswith("- "):
            out.append("<ul>" + "".join(f"<li>{html.escape(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            bold = re.sub(r"[*][*](.+?)[*][*]", r"<strong>\1</strong>", html.escape(" ".join(lines)))
            out.append(f"<p>{bold}</p>")
    return "\n".join(out) + "\n"
