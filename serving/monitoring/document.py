"""What watching found, as a document: verdict first, then every figure with what it is held against, and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.report.document import Block, Bullets, Callout, Cell, Column, Document, Paragraph, Section, Table
from serving.monitoring.pictures import pictures
from training.monitoring.kept import Watched
from training.monitoring.line import Line, crossed
from training.monitoring.seen import Seen

TITLES = {
    "feature_drift": "Drift of features", "psi": "Drift of features", "ks": "Drift of features",
    "null_rate": "Drift of features", "unseen": "Unseen categories", "feature_age": "Age of features",
    "feature_age_h": "Age of features", "without_features": "Age of features", "prediction_psi": "Drift of predictions",
    "prediction_mean": "Drift of predictions", "calibration": "Matured outcomes", "ece": "Matured outcomes",
    "auc": "Matured outcomes", "auc_loss": "Matured outcomes", "acceptance": "Acceptance by policy",
    "coverage": "Coverage", "offers_shown": "Coverage", "top_tenth": "Coverage", "empty": "Coverage",
    "fallback": "Coverage", "held_back": "Headroom", "inventory_left": "Headroom", "budget_left": "Headroom",
    "degraded": "Answers", "late": "Answers", "model_age_days": "Age of the model",
}  # fmt: skip
MOST_NAMED = 8  # in the verdict, each feature once, the worst first
MOST_ROWS = 12  # of one section that are neither crossed nor among the nearest to their bound


def document_of(watched: Watched, seen: Seen | None) -> Document:
    """`seen` gives the pictures; without it there are none."""
    found = crossed(watched.lines)
    n_known = sum(line.verdict != "unknown" for line in watched.lines)
    title = f"{len(found)} of {n_known} figures crossed their threshold" if found else "No threshold was crossed"
    worst = {line.of or line.check: line for line in sorted(found, key=_nearness)}  # of what has several, the worst
    named = sorted(worst.values(), key=lambda line: -_nearness(line))[:MOST_NAMED]
    items = tuple(f"{_name(line)}: {_told(line.figure)} against {_told(line.bound)}; {line.said}" for line in named)
    verdict = Callout(title=title, tone="warn" if found else "good", items=items)
    missing = [line for line in watched.lines if line.verdict == "unknown"]
    blocks: list[Block] = [verdict]
    if missing:
        said = tuple(f"{_name(line)}: {line.said}" for line in missing)
        blocks.append(Section(title="What could not be judged", id="unknown", blocks=(Bullets(said),)))
    drawn = pictures(seen, watched.lines) if seen is not None else {}
    for name in dict.fromkeys(TITLES.values()):
        lines = [line for line in watched.lines if TITLES.get(line.check, "Others") == name and line.figure is not None]
        if lines:
            table, note = _table(name, lines)
            parts: tuple[Block, ...] = (table, *note, *drawn.get(name, ()))
            blocks.append(Section(title=name, id=name.lower().replace(" ", "-"), blocks=parts))
    release = f"release {watched.release}" if watched.release else "no release"
    lede = (
        f"{watched.since:%Y-%m-%d %H:%M} to {watched.until:%Y-%m-%d %H:%M} UTC, {release} serves: "
        f"{watched.n_decisions:,} decisions, {watched.n_outcomes:,} shown offers whose outcome is known."
    )
    return Document(
        title="Monitoring", lede=lede, blocks=tuple(blocks), data=watched,
        footer=f"Made {watched.at:%Y-%m-%d %H:%M} UTC by nbo monitor; thresholds stand in monitor.toml.",
    )  # fmt: skip


def _table(name: str, lines: Sequence[Line]) -> tuple[Table, tuple[Block, ...]]:
    """Those that crossed first, then those nearest to their bound."""
    ordered = sorted(lines, key=lambda line: (line.verdict != "crossed", -_nearness(line)))
    n_crossed = sum(line.verdict == "crossed" for line in lines)
    kept = ordered[: max(MOST_ROWS, n_crossed)]
    rows = tuple(
        (
            _name(line), _told(line.figure), _interval(line), _told(line.bound),
            Cell("crossed", "warn") if line.verdict == "crossed" else Cell("ok" if line.bound is not None else "shown"),
            line.said,
        )
        for line in kept
    )  # fmt: skip
    columns = (
        Column("what"), Column("figure", right=True), Column("95 % interval"), Column("threshold", right=True),
        Column("verdict"), Column("which says"),
    )  # fmt: skip
    rest = len(ordered) - len(kept)
    note = (Paragraph(f"{rest} more are within their thresholds; the JSON has them all.", "muted"),) if rest else ()
    return Table(caption=name, columns=columns, rows=rows), note


def _nearness(line: Line) -> float:
    """Of 1 and more it is crossed; 0 where nothing is held against it."""
    if line.bound is None or line.figure is None or not line.bound:
        return 0.0
    ratio = abs(line.figure / line.bound)
    return 1.0 / max(ratio, 1e-9) if line.check == "offers_shown" else ratio  # where less is worse


def _name(line: Line) -> str:
    said = line.check.replace("_", " ")
    return f"{said} of {line.of}" if line.of else said


def _told(figure: float | None) -> str:
    return "" if figure is None else f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.4g}"


def _interval(line: Line) -> str:
    return "" if line.low is None or line.high is None else f"{_told(line.low)} … {_told(line.high)}"
