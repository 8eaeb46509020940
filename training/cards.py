"""Model cards: what a model is, from what data, how good, and where not to use it, from what its run keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from features.events import from_us
from training.tracking import Data, Logged

ROWS = 40  # of a table, at most; the rest is beside the card
SHOWN_OF_CANDIDATES = (
    "model", "part", "ndcg_at_10", "ndcg_at_10_low", "ndcg_at_10_high", "recall_at_10", "n_tried", "recipe",
)  # fmt: skip
DESCRIPTION = 5_000  # characters that MLflow keeps of the description of a version
LONG = ("Canaries", "By slice", "Calibration", "By horizon", "How it was chosen")  # what it may lack, the first first
LOWER_IS_BETTER = ("log_loss", "brier", "ece")


@dataclass(frozen=True, slots=True)
class About:
    """What is the same for every model of a kind."""

    title: str
    is_: str
    use: str
    limits: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]  # name of the metric, and how it is called
    rows: str  # what is counted in n_train, n_validation and n_test


PROBABILITIES = (
    ("auc", "AUC"), ("log_loss", "log loss"), ("brier", "Brier"), ("ece", "ECE"), ("top_lift", "lift at 10 %"),
)  # fmt: skip
ABOUT: Mapping[str, About] = {
    "recommender": About(
        "Recommender",
        "orders the offers of the catalogue for a customer. Affinity has no unit and compares offers of one customer.",
        "To choose and to order offers, with rules, eligibility and value applied after it.",
        (
            "Affinity is no probability and does not compare customers.",
            "It learned from what customers took while earlier offers were shown to them: what was never shown or "
            "stocked is judged by its attributes alone.",
            "Whoever it does not know is answered from attributes or popularity.",
        ),
        (("ndcg_at_10", "NDCG@10"), ("recall_at_10", "recall@10"), ("coverage_at_10", "coverage@10"),
         ("new_offers_ndcg_at_10", "NDCG@10, offers not taken before"),
         ("new_offers_recall_at_10", "recall@10, offers not taken before")),
        "customers",
    ),
    "acceptance": About(
        "Acceptance",
        "gives the probability that a customer accepts an offer that is shown to them, in its context.",
        "To weigh offers by their chance of being accepted, as expected value does.",
        (
            "It tells who accepts what is shown, not what showing it changes: it is no measure of uplift.",
            "It learned from offers that earlier policies chose to show; far from these its probabilities are guesses.",
        ),
        PROBABILITIES,
        "impressions",
    ),
    "churn": About(
        "Churn",
        "gives the probability that a customer who was active falls silent for the horizon.",
        "To find customers at risk, and to weigh retention by what they are worth.",
        (
            "Silent is not the same as gone: customers come back after longer pauses too.",
            "Risk says who leaves, not whom a contact keeps; that is uplift, which needs a randomised holdout.",
            "It judges customers with activity; of somebody without any it knows nothing.",
        ),
        PROBABILITIES,
        "customers at snapshot dates",
    ),
}  # fmt: skip


def card(name: str, kept: Logged, data: Data, command: str, code: str) -> str:
    """Markdown. `command` trains it again, with the program at version `code`. Pure."""
    about, chosen = ABOUT[name], str(kept.params["chosen"])
    sections = (
        (f"# {about.title}: {chosen}", [_what(about, kept)]),
        ("## Intended use", [about.use]),
        ("## Data", [_data(about, kept, data)]),
        ("## How it was chosen", [_choice(name, kept), table(_candidates(kept.tables.get("candidates")))]),
        ("## How good it is", [_verdict(kept), metrics_table(about, kept)]),
        ("## By horizon", [table(kept.tables.get("horizons"))]),
        ("## By slice", [table(kept.tables.get("slices"))]),
        ("## Calibration", _calibration(kept)),
        ("## Canaries", _canaries(kept)),
        ("## Limits", [_bullets([*_doubts(kept), *about.limits, *_notes(kept)])]),
        ("## How to reproduce", [_reproduce(kept, data, command, code)]),
    )
    filled = ((title, [part for part in parts if part]) for title, parts in sections)
    return "\n\n".join("\n\n".join([title, *parts]) for title, parts in filled if parts) + "\n"


def description(card: str, at_most: int = DESCRIPTION) -> str:
    """The card in as many characters: without its longest tables, and saying which of its parts are left out."""
    title, *sections = card.split("\n## ")
    out: list[str] = []
    said = card
    for name in LONG:
        if len(said) <= at_most:
            break
        sections = [one for one in sections if one.split("\n", 1)[0] != name]
        out.append(name.lower())
        left_out = f"The run's card.md says more: {', '.join(out)}.\n"
        said = "\n## ".join([title, *sections, f"More\n\n{left_out}"])
    return said if len(said) <= at_most else f"{said[: at_most - 1]}…"


def _what(about: About, kept: Logged) -> str:
    said = f"The {about.title.lower()} model {about.is_} This one is `{kept.params['chosen']}`"
    horizon = f", for {kept.params['horizon_days']} days" if "horizon_days" in kept.params else ""
    return f"{said}{horizon}; its baseline is `{kept.params['baseline']}`."


def _data(about: About, kept: Logged, data: Data) -> str:
    m = kept.metrics
    lines = [f"{data.n_rows:,} events from {data.period[0]} to {data.period[1]}; digest `{data.digest}`."]
    parts = []
    for part, what in (("train", "learn from"), ("validation", "choose by"), ("test", "judge by")):
        if f"n_{part}" in m:
            rate = f" ({m[f'rate_{part}']:.2%} positive)" if f"rate_{part}" in m else ""
            parts.append(f"{int(m[f'n_{part}']):,} {about.rows} to {what}{rate}")
    if "n_judged" in m:
        parts.append(f"judged on {int(m['n_judged']):,} {about.rows} of the last part in time")
    if "n_windows" in m:
        parts.append(f"chosen on {_counted(int(m['n_windows']), 'window')} before it")
    if parts:
        said = "; ".join(parts)
        lines.append(f"{said[0].upper()}{said[1:]}.")
    return " ".join(lines)


def _choice(name: str, kept: Logged) -> str:
    by = "NDCG@10 on the validation windows, highest first" if name == "recommender" else "log loss on validation"
    candidates = kept.tables.get("candidates", pd.DataFrame())
    if "model" not in candidates:
        return ""
    n = f"{int(kept.metrics['n_tried']):,} settings" if "n_tried" in kept.metrics else "these"
    said = f"Among {n}, by {by}. The test part was read afterwards, of the choice and of what it is compared with"
    out = sorted(set(candidates["model"][candidates["part"] == "test"])) if "part" in candidates else []
    return f"{said}: {', '.join(f'`{one}`' for one in out)}." if out else f"{said}."


def _candidates(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    """Of recommenders' many figures those that they were chosen by."""
    if frame is None or "ndcg_at_10" not in frame:
        return frame
    return frame[[column for column in SHOWN_OF_CANDIDATES if column in frame]]


def _verdict(kept: Logged) -> str:
    said = [f"Against its baseline: **{kept.tags['verdict']}**."] if "verdict" in kept.tags else []
    if "statement" in kept.tags:
        said.append(kept.tags["statement"])
    return " ".join(said)


def metrics_table(about: About, kept: Logged) -> str:
    """Each figure with its 95 % interval where the run has one, the baseline's, and the gain with its interval."""
    m, rows = kept.metrics, []
    for name, label in about.metrics:
        if name not in m:
            continue
        arrow = "↓" if name in LOWER_IS_BETTER else "↑"
        other = f"{m[f'baseline_{name}']:.4f}" if f"baseline_{name}" in m else ""
        gain = interval(m, f"{name}_gain", signed=True) if f"{name}_gain" in m else ""
        rows.append((f"{label} {arrow}", interval(m, name), other, gain))
    if not rows:
        return ""
    head = ("test part, 95 % interval", "this model", "baseline", "better by")
    return _markdown(head, rows)


def interval(metrics: Mapping[str, float], name: str, *, signed: bool = False) -> str:
    """`0.1234 [0.1111, 0.1357]`, or the figure alone where the run has no interval of it."""
    sign = "+" if signed else ""
    said = f"{metrics[name]:{sign}.4f}"
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return said if low is None or high is None else f"{said} [{low:{sign}.4f}, {high:{sign}.4f}]"


def _calibration(kept: Logged) -> list[str]:
    if "calibration" not in kept.params:
        return []
    chosen = kept.params["calibration"]
    said = "No map: none saved enough." if chosen == "none" else f"A map: {chosen}."
    return [
        f"{said} Log loss of each on rows it was not fitted on:",
        table(kept.tables.get("calibration")),
        "On the test part, in bins of equal numbers of rows:",
        table(kept.tables.get("reliability")),
    ]


def _canaries(kept: Logged) -> list[str]:
    m, said = kept.metrics, []
    if "canary_rows_made_again" in m:
        said.append(
            f"Features of {int(m['canary_rows_made_again']):,} rows were made again from the log, cut before each "
            "row's instant, and were the same."
        )
    if "canary_shuffled_auc" in m:
        said.append(f"With labels shuffled within their day the AUC is {interval(m, 'canary_shuffled_auc')}.")
    if "canary_strongest_column_auc" in m:
        said.append(f"The strongest column alone reaches an AUC of {m['canary_strongest_column_auc']:.4f}.")
    return [" ".join(said), table(kept.tables.get("canaries"), 5) if said else ""]


def _doubts(kept: Logged) -> list[str]:
    verdict = kept.tags.get("verdict")
    if verdict == "lost":
        return ["It is worse than its baseline on the test part: do not let it serve."]
    if verdict == "undecided":
        return ["It is not shown to be better than its baseline: the interval of the difference holds 0."]
    return []


def _notes(kept: Logged) -> list[str]:
    notes, left_out = kept.tables.get("notes"), kept.tables.get("left_out")
    said = [] if notes is None or "note" not in notes else [str(one) for one in notes["note"]]
    if left_out is not None and "model" in left_out:
        said += [f"`{one.model}` was not tried: {one.why}." for one in left_out.itertuples()]
    return said


def _reproduce(kept: Logged, data: Data, command: str, code: str) -> str:
    seed = f" with seed {kept.tags['seed']}" if "seed" in kept.tags else ""
    until = from_us(int(kept.tags["as_of_us"])).isoformat() if "as_of_us" in kept.tags else data.period[1]
    return (
        f"```console\n$ {command}\n```\n\n"
        f"It was trained on the log as of {until}{seed}, by the program at `{code}`; the digest above is of the log's "
        "files and of that instant. The same data, instant, seed and program give the same model."
    )


# Markdown


def table(frame: pd.DataFrame | None, at_most: int = ROWS) -> str:
    """A frame with numbers to four digits; of a longer one the beginning, and how many rows there are."""
    if frame is None or not len(frame) or not len(frame.columns):
        return ""
    shown = frame.head(at_most)
    columns = [column for column in frame.columns if _bounded(column) not in frame.columns]
    cells = [[_with_bounds(shown, column, at) for column in columns] for at in range(len(shown))]
    said = _markdown([_cell(column) for column in columns], cells)
    return said if len(frame) <= at_most else f"{said}\n\nThe first {at_most} of {len(frame):,} rows."


def _bounded(column: object) -> str | None:
    """Of `auc_low` and `auc_high` it is `auc`."""
    name = str(column)
    return next((name.removesuffix(end) for end in ("_low", "_high") if name.endswith(end)), None)


def _with_bounds(frame: pd.DataFrame, column: Any, at: int) -> str:
    """One cell, with the interval that stands beside it in the frame."""
    low, high = (
        _cell(frame[name].iloc[at]) if (name := f"{column}{end}") in frame else "" for end in ("_low", "_high")
    )
    said = _cell(frame[column].iloc[at])
    return f"{said} [{low}, {high}]" if low and high else said


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *[list(row) for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1_000 else f"{value:.4g}"
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= 120 else f"{text[:119]}…"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
