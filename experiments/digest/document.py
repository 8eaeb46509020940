"""The weekly digest as a document that every team reads: what changed first, how it was measured last."""

from __future__ import annotations

from datetime import datetime, timedelta

from experiments.digest import caused as held_out
from experiments.digest.digest import Digest
from experiments.digest.document_measures import engagement_section, formulas, tiles
from experiments.digest.document_offers import funnel_section, likings_section, movers_section
from experiments.digest.document_said import said_section
from experiments.digest.measures import ALPHA
from experiments.lifecycle import STAGES
from experiments.report import amounts
from experiments.report.document import (
    Block,
    Bullets,
    Callout,
    Cell,
    Code,
    Column,
    Document,
    Paragraph,
    Section,
    Strong,
    Table,
    Tone,
)

VERDICTS: dict[str, Tone] = {"ship": "good", "stop": "warn", "do not trust": "bad"}


def document_of(digest: Digest, made_at: datetime) -> Document:
    """The whole digest."""
    last = digest.until - timedelta(seconds=1)
    return Document(
        title=f"Week {digest.week}",
        lede=f"What customers did, said and took from {_day(digest, digest.since)} to {_day(digest, last)} "
        f"({digest.time_zone}), beside the week before.",
        blocks=(
            *_warnings(digest),
            tiles(digest),
            engagement_section(digest),
            _lifecycle(digest),
            funnel_section(digest),
            movers_section(digest),
            likings_section(digest),
            said_section(digest),
            _experiments(digest),
            _holdout(digest),
            formulas(digest),
        ),
        data=digest,
        footer=f"Made on {amounts.moment(made_at)} of events from {amounts.moment(digest.data_from)} "
        f"to {amounts.moment(digest.data_until)}.",
    )


def _day(digest: Digest, at: datetime) -> str:
    from zoneinfo import ZoneInfo

    local = at.astimezone(ZoneInfo(digest.time_zone))
    return f"{local:%A} {local.day} {local:%B %Y}"


def _warnings(digest: Digest) -> list[Block]:
    found: list[Block] = []
    if digest.alarms:
        found.append(Callout(title="Somebody should look at this today", tone="bad", items=digest.alarms))
    if digest.notes:
        found.append(Callout(title="Before you compare", tone="warn", items=digest.notes))
    return found


def _lifecycle(digest: Digest) -> Section:
    rows = tuple(
        (
            one.stage,
            STAGES[one.stage],
            amounts.NOT_KNOWN if one.n is None else f"{one.n:,}",
            amounts.amount(one.share, "share"),
            amounts.NOT_KNOWN if one.n_before is None else f"{one.n_before:,}",
            amounts.NOT_KNOWN if one.n is None or one.n_before is None else _moved(one.n - one.n_before),
        )
        for one in digest.lifecycle
    )
    columns = (
        Column("Stage"), Column("Meaning"), Column("Customers", right=True), Column("Share", right=True),
        Column("Week before", right=True), Column("Change", right=True),
    )  # fmt: skip
    caption = "Everybody ever active, at the end of the week; each in exactly one stage."
    missing = tuple(
        (Strong(one.stage), f" is not known: {one.why}.") for one in digest.lifecycle if one.why is not None
    )
    table = Table(caption=caption, columns=columns, rows=rows)
    return Section(title="Lifecycle", blocks=(table, Bullets(missing)) if missing else (table,), id="lifecycle")


def _moved(n: int) -> str:
    return amounts.minus(f"{n:+,}") if n else "0"


def _experiments(digest: Digest) -> Section:
    found = digest.experiments
    blocks: list[Block] = []
    if found.states:
        columns = (
            Column("Experiment"), Column("State"), Column("Units", right=True), Column("Change of its primary metric"),
            Column("Verdict"),
        )  # fmt: skip
        rows = tuple(
            (
                Cell((Code(one.experiment_id),)),
                one.status,
                _units(one.n_units, one.planned_units),
                "; ".join(f"{one.primary_metric}, {variant}: {words}" for variant, words in one.changes)
                or amounts.NOT_KNOWN,
                Cell((Strong(one.verdict),), VERDICTS.get(one.verdict, "plain")) if one.verdict else amounts.NOT_KNOWN,
            )
            for one in found.states
        )
        caption = "Experiments that ran in the week, as of its end. Intervals hold however often one has looked."
        blocks.append(Table(caption=caption, columns=columns, rows=rows))
        blocks.append(
            Bullets(
                tuple(
                    (Code(one.experiment_id), f": {reason}.")
                    for one in found.states
                    for reason in ([one.why] if one.why is not None else one.reasons)
                )
            )
        )
    else:
        blocks.append(Paragraph("No experiment ran in this week."))
    if found.n_drafts:
        blocks.append(Paragraph(f"{found.n_drafts:,} not started yet.", "muted"))
    return Section(title="Experiments", blocks=tuple(blocks), id="experiments")


def _units(n: int | None, planned: int | None) -> str:
    if n is None:
        return amounts.NOT_KNOWN
    return f"{n:,}" if planned is None else f"{n:,} of {planned:,}"


def _holdout(digest: Digest) -> Section:
    found = digest.holdout
    title = "What the service caused"
    if found.why is not None:
        return Section(title=title, blocks=(Paragraph(found.why),), id="caused")
    told = (
        f"{found.n_held_out:,} customers were held out and {found.n_served:,} served; "
        f"{amounts.amount(found.share, 'share')} of all are to be held out."
    )
    left = f" {found.n_crossed:,} who met both were left out." if found.n_crossed else ""
    columns = (
        Column("Per customer"), Column("Held out", right=True), Column("Served", right=True),
        Column("Caused", right=True), Column("Interval", right=True), Column("In sum, this week", right=True),
    )  # fmt: skip
    known = [one for one in found.week if one.effect is not None and one.effect.absolute is not None]
    blocks: list[Block] = [
        Paragraph(told + left),
        Table(
            caption="This week, of everybody met since the holdout's share was set, whether or not they came. Bold: "
            "beyond chance, allowing for how many measures were looked at. 95% intervals.",
            columns=columns,
            rows=tuple(_caused(one, digest.currency) for one in known),
        ),
    ]
    missing = [one for one in found.week if one not in known]
    if missing:
        blocks.append(Bullets(tuple((Strong(one.title), f" is not known: {one.why}.") for one in missing)))
    if found.since_start is not None:
        since = f"{found.primary_title} since the holdout began: {found.since_start}. "
        blocks.append(Paragraph(f"{since}This interval holds however often one has looked."))
    return Section(title=title, blocks=tuple(blocks), id="caused")


def _caused(one: held_out.Caused, currency: str) -> tuple[str | Cell, ...]:
    effect = one.effect
    assert effect is not None
    assert effect.absolute is not None
    caused = amounts.difference(effect.absolute, one.unit, currency)
    sure = effect.p_adjusted is not None and effect.p_adjusted <= ALPHA
    tone: Tone = "good" if (effect.absolute > 0) == (one.better == "higher") else "bad"
    return (
        one.title,
        amounts.amount(effect.estimate_control, one.unit, currency),
        amounts.amount(effect.estimate_variant, one.unit, currency),
        Cell((Strong(caused),), tone) if sure else caused,
        amounts.between(
            amounts.difference(effect.absolute_low, one.unit, currency),
            amounts.difference(effect.absolute_high, one.unit, currency),
        ),
        _total(one, currency),
    )


def _total(one: held_out.Caused, currency: str) -> str:
    if one.unit != "currency" or one.total is None or one.total_low is None or one.total_high is None:
        return amounts.DASH
    low, middle, high = (
        amounts.difference(value, "currency", currency) for value in (one.total_low, one.total, one.total_high)
    )
    return f"{middle} ({low} … {high})"
