"""The digest's measures: at a glance, with their intervals and changes, and how each is computed."""

from __future__ import annotations

from experiments.digest.digest import Digest
from experiments.digest.measures import ALPHA, Level, Measure
from experiments.digest.pictures import changes_picture, days_picture
from experiments.metrics import METRICS
from experiments.report import amounts
from experiments.report.document import (
    Block,
    Bullets,
    Cell,
    Column,
    Fold,
    Paragraph,
    Section,
    Strong,
    Table,
    Tile,
    Tiles,
    Tone,
)

TILES = (
    "customer_engagement", "active_customers", "acceptance_rate", "offer_value_per_visitor", "revenue_per_customer",
    "nps",
)  # fmt: skip


def tiles(digest: Digest) -> Tiles:
    """The figures that most look for first."""
    by_name = {one.metric: one for one in digest.measures}
    return Tiles(
        tuple(
            Tile(
                label=one.title,
                value=_level(one, one.now, digest.currency),
                note=_change(one, digest.currency),
                tone=_tone(one),
            )
            for one in (by_name[name] for name in TILES)
            if one.now.value is not None
        )
    )


def _tone(one: Measure) -> Tone:
    """Only where the change is beyond chance, allowing for all measures that were looked at."""
    change = one.change
    if change is None or change.p_adjusted is None or change.p_adjusted > ALPHA:
        return "plain"
    return "good" if (change.absolute > 0) == (one.better == "higher") else "bad"


def _level(one: Measure, level: Level, currency: str) -> str:
    if level.value is not None and one.unit == "customers":
        return f"{level.value:,.0f}"
    return amounts.amount(level.value, one.unit, currency)


def _interval(one: Measure, level: Level, currency: str) -> str:
    if level.low is None or level.high is None:
        return amounts.DASH
    if one.unit == "customers":
        return f"{level.low:,.0f} … {level.high:,.0f}"
    return amounts.between(
        amounts.amount(level.low, one.unit, currency), amounts.amount(level.high, one.unit, currency)
    )


def _change(one: Measure, currency: str) -> str:
    if one.change is None:
        return "change not known"
    if one.change.relative is not None and one.unit != "score":
        return amounts.change(one.change.relative)
    return _difference(one, one.change.absolute, currency)


def _difference(one: Measure, value: float, currency: str) -> str:
    if one.unit == "customers":
        return amounts.minus(f"{value:+,.0f}")
    return amounts.difference(value, one.unit, currency)


def _change_interval(one: Measure, currency: str) -> str:
    change = one.change
    if change is None or change.low is None or change.high is None:
        return amounts.DASH
    if change.relative_low is not None and change.relative_high is not None and one.unit != "score":
        return amounts.between(amounts.change(change.relative_low), amounts.change(change.relative_high))
    return amounts.between(_difference(one, change.low, currency), _difference(one, change.high, currency))


def engagement_section(digest: Digest) -> Section:
    """All measures with their changes, and why some are not known."""
    known = [one for one in digest.measures if one.now.value is not None]
    unknown = [one for one in digest.measures if one.now.value is None]
    blocks: list[Block] = [*_factors(digest)]
    blocks += [one for one in (changes_picture(digest), days_picture(digest)) if one is not None]
    blocks.append(
        Table(
            caption="Measures of the week, with 95% intervals. Bold: the change is beyond chance, allowing for how "
            "many measures were looked at (Benjamini-Hochberg).",
            columns=(
                Column("Measure"),
                Column("This week", right=True),
                Column("Interval", right=True),
                Column("Week before", right=True),
                Column("Change", right=True),
                Column("Interval of the change", right=True),
            ),
            rows=tuple(_row(one, digest.currency) for one in known),
        )
    )
    if unknown:
        blocks.append(
            Fold(
                f"{len(unknown)} measures are not known",
                (Bullets(tuple((Strong(one.title), f": {one.now.why}.") for one in unknown)),),
            )
        )
    return Section(title="Engagement", blocks=tuple(blocks), id="engagement")


def _row(one: Measure, currency: str) -> tuple[str | Cell, ...]:
    change, tone = _change(one, currency), _tone(one)
    return (
        one.title,
        _level(one, one.now, currency),
        _interval(one, one.now, currency),
        _level(one, one.before, currency),
        Cell((Strong(change),), tone) if tone != "plain" else change,
        _change_interval(one, currency),
    )


def _factors(digest: Digest) -> list[Block]:
    """Engagement as the product that it is."""
    by_name = {one.metric: one for one in digest.measures}
    whole, active, often = (
        by_name[name].now for name in ("customer_engagement", "active_customers", "visit_frequency")
    )
    if whole.value is None or active.value is None or often.value is None or not active.n:
        return []
    share = active.value / active.n
    return [
        Paragraph(
            (
                "Customer engagement was ",
                Strong(amounts.amount(whole.value, "count")),
                f": {amounts.amount(share, 'share')} of {active.n:,} customers were active, "
                f"with {amounts.amount(often.value, 'count')} visits each.",
            )
        )
    ]


def formulas(digest: Digest) -> Fold:
    """What each measure is, and of which time."""
    items = tuple(
        (
            Strong(one.title),
            f": {one.formula}. From {amounts.moment(one.now.since)}; {METRICS[one.metric].exposure_rule}.",
        )
        for one in digest.measures
    )
    return Fold("How each measure is computed", (Bullets(items),))
