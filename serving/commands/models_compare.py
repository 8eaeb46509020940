"""`nbo models compare A B`: two releases as a document, with tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.report.document import Bullets, Cell, Column, Document, Section, Table, Tone, without_pictures
from serving.commands.documents import hand_over, wanted_format
from serving.settings import Settings, load_settings
from training.comparison import Comparison, Figure, Made, Metric
from training.gates import Standing


def compare(
    first: str, second: str, *, out: Path | None = None, format: str | None = None, as_json: bool = False
) -> int:
    """Prints or writes the comparison; exit code 0. `NotFound` names a release or alias that there is not."""
    wanted = wanted_format(out, format, as_json=as_json)
    document = made(load_settings(), first, second)
    if out is None and wanted == "md":
        document = without_pictures(document)  # their words alone lead nowhere in a terminal
    hand_over(document, out, "comparison", wanted, as_json=as_json)
    return 0


def made(settings: Settings, first: str, second: str) -> Document:
    """Both exported if they are not, and measured in one run over the live catalogue."""
    from serving.commands.models_compare_pictures import pictures
    from training.comparison import compare as compared
    from training.gates import measure, offers_of, standing_of
    from training.registry import exported
    from training.tracking import tracking

    home = settings.home
    folders = [exported(home, name) for name in (first, second)]
    with tracking(home) as client:
        one, other = (standing_of(client, folder, folder.name) for folder in folders)
    offers = offers_of(home)
    found = compared(one, other, (measure(folders, offers), measure(folders[1:], offers)))
    return document_of(found, one, other, pictures(found, one, other))


def document_of(found: Comparison, first: Standing, second: Standing, drawn: Sequence[Section]) -> Document:
    a, b = found.first.release, found.second.release
    blocks = [
        Section(title="What they are", blocks=(_made_of(found.first, found.second),)),
        Section(title="How good they are", blocks=(_metrics(found),)),
        Section(title="How they serve", blocks=(_serving(found),)),
        *([Section(title="By slice", blocks=(_slices(found),))] if found.slices else []),
        *([Section(title="Parameters that differ", blocks=(_parameters(found),))] if found.parameters else []),
        *drawn,
        Section(title="How to read it", blocks=(Bullets(NOTES),)),
    ]
    lede = f"Differences are release {b} minus release {a}, with 95 % intervals."
    if a == b:
        lede = f"Both are one release, {a}: there is nothing to compare, and what differs in time or memory is chance."
    return Document(
        title=f"Release {b} against release {a}",
        lede=lede,
        blocks=tuple(blocks),
        data=found,
    )


NOTES = (
    "Each model was judged on the test part of its own training: later than all it was fitted on.",
    "Of other days, a difference mixes the models and the days; NDCG@10 is then compared by the gain over popularity.",
    "Acceptance and churn are compared on the held-out rows that both were judged on, where these are enough; on other "
    "rows their intervals are added, unpaired.",
    "Latency and size were measured now, on the exported files, both releases in one run.",
)


def _columns(*titles: str) -> tuple[Column, ...]:
    return tuple(Column(title, right=n > 0) for n, title in enumerate(titles))


def _names(a: Made, b: Made) -> tuple[str, str]:
    return f"release {a.release}", f"release {b.release}"


def _made_of(a: Made, b: Made) -> Table:
    models = [*a.versions, *(name for name in b.versions if name not in a.versions)]
    rows = [("data until", a.as_of, b.as_of), ("data digest", a.data_digest[:12], b.data_digest[:12])]
    rows += [(name, _model(a, name), _model(b, name)) for name in models]
    return Table(caption="Releases", columns=_columns("", *_names(a, b)), rows=tuple(rows))


def _model(one: Made, name: str) -> str:
    if name not in one.versions:
        return one.not_trainable.get(name, "none")
    words = [f"version {one.versions[name]}", one.chosen.get(name, ""), one.verdicts.get(name, "")]
    return ", ".join(word for word in words if word)


def _metrics(found: Comparison) -> Table:
    columns = _columns(
        "", f"release {found.first.release}", f"release {found.second.release}", "difference", "compared"
    )
    rows = tuple(
        (f"{m.model}: {m.name}", _shown(m.first), _shown(m.second), Cell(_shown(m.difference, "+"), _tone(m)), m.how)
        for m in found.metrics
    )
    return Table(caption="Metrics on the test parts", columns=columns, rows=rows)


def _tone(m: Metric) -> Tone:
    """Of a difference whose interval is on one side of 0."""
    low, high = m.difference.low, m.difference.high
    if low is None or high is None or low <= 0 <= high:
        return "plain"
    return "good" if (low > 0) != m.lower_is_better else "bad"


def _shown(figure: Figure, sign: str = "") -> str:
    if figure.value is None:
        return "–"
    interval = f" ({figure.low:{sign}.4f} … {figure.high:{sign}.4f})" if None not in (figure.low, figure.high) else ""
    return f"{figure.value:{sign}.4f}{interval}"


def _serving(found: Comparison) -> Table:
    a, b = found.serving
    rows = (
        (f"p99 at {a.n_offers:,} offers, ms", f"{a.p99_ms:.3f}", f"{b.p99_ms:.3f}"),
        ("median, ms", f"{a.p50_ms:.3f}", f"{b.p50_ms:.3f}"),
        ("files, MB", f"{a.files_mb:,.1f}", f"{b.files_mb:,.1f}"),
        ("memory of a worker, MB", f"{a.memory_mb:,.0f}", f"{b.memory_mb:,.0f}"),
        ("of the catalogue it knows", f"{a.known:.1%}", f"{b.known:.1%}"),
        ("of the catalogue it recommends", f"{a.recommended:.1%}", f"{b.recommended:.1%}"),
    )
    return Table(caption="Serving", columns=_columns("", *_names(found.first, found.second)), rows=rows)


def _slices(found: Comparison) -> Table:
    columns = _columns("", "rows", *_names(found.first, found.second), "difference")
    rows = tuple(
        (f"{s.model}, {s.slice} {s.value}: {s.metric}", f"{s.n_first:,} / {s.n_second:,}", f"{s.first:.4f}",
         f"{s.second:.4f}", f"{s.second - s.first:+.4f}")
        for s in found.slices
    )  # fmt: skip
    return Table(caption="Slices that both were judged on", columns=columns, rows=rows)


def _parameters(found: Comparison) -> Table:
    columns = _columns("", *_names(found.first, found.second))
    rows = tuple((f"{p.model}: {p.name}", p.first or "–", p.second or "–") for p in found.parameters)
    return Table(caption="Parameters", columns=columns, rows=rows)
