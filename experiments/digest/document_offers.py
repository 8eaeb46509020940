"""The digest's sections on offers: the funnel, what moved, and who likes or rejects what."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.digest.digest import Digest
from experiments.digest.funnel import Narrowing
from experiments.digest.likings import Liking
from experiments.digest.movers import ALPHA, Mover
from experiments.digest.pictures import likings_picture
from experiments.report import amounts
from experiments.report.document import Block, Cell, Column, Fold, Paragraph, Section, Strong, Table, Tone

MOST = 8  # likings each way that are shown; the JSON has all
BASIS = {
    "p_accept": "Expected is what the model said when it decided (the sum of the logged p_accept).",
    "main_effects": "No decision with a p_accept is in the log for these impressions. Expected is what the offer's "
    "appeal to everybody and the segment's readiness to take any offer make together.",
}


def funnel_section(digest: Digest) -> Section:
    columns = (
        Column("Step"), Column("This week", right=True), Column("Customers", right=True), Column("Of", right=True),
        Column("Week before", right=True), Column("Change", right=True),
    )  # fmt: skip
    table = Table(
        caption="What was decided and shown in the week, and what came of it by its end; of the week before, by its.",
        columns=columns,
        rows=tuple(_step(one) for one in digest.funnel),
    )
    missing = {one.why: None for one in digest.funnel if one.why is not None}
    return Section(
        title="From decisions to acceptances",
        blocks=(table, *(Paragraph(f"Not known: {why}.", "muted") for why in missing)),
        id="funnel",
    )


def _step(one: Narrowing) -> tuple[str | Cell, ...]:
    if one.now is None:
        return one.title, *[amounts.NOT_KNOWN] * 5
    before = one.before
    return (
        one.title,
        f"{one.now.n:,}",
        f"{one.now.customers:,}",
        amounts.DASH if one.of is None or one.share is None else _of(one),
        amounts.NOT_KNOWN if before is None else f"{before.n:,}",
        amounts.NOT_KNOWN if before is None else amounts.change(one.now.n / before.n - 1) if before.n else amounts.DASH,
    )


def _of(one: Narrowing) -> str:
    assert one.share is not None
    if one.of == "decisions":
        return f"{amounts.amount(one.share, 'count')} a decision"
    return f"{amounts.amount(one.share, 'share')} of {one.of}"


def movers_section(digest: Digest) -> Section:
    found, title = digest.movers, "Offers that moved"
    if found is None:
        return Section(title=title, blocks=(Paragraph("There is no week before to compare with."),), id="movers")
    if not found.n_offers:
        return Section(title=title, blocks=(Paragraph("No offer was shown in these two weeks."),), id="movers")
    rows = [("up", one) for one in found.up] + [("down", one) for one in found.down]
    named = {one.offer_id for _, one in rows}
    rows += [("rate", one) for one in found.changed if one.offer_id not in named]
    if not rows:
        text = f"None of {found.n_offers:,} offers earned more or less than the week before."
        return Section(title=title, blocks=(Paragraph(text),), id="movers")
    columns = (
        Column("Offer"), Column("Value accepted", right=True), Column("Against the week before", right=True),
        Column("Impressions", right=True), Column("Week before", right=True), Column("Acceptance rate", right=True),
        Column("Week before", right=True), Column("Difference", right=True),
    )  # fmt: skip
    table = Table(
        caption=f"Of {found.n_offers:,} offers those that gained and lost most, and those whose acceptance rate "
        "changed. Rates are of impressions whose attribution window ended in the week. Bold: the rate changed beyond "
        "chance, allowing for all offers; impressions are taken as independent.",
        columns=columns,
        rows=tuple(_mover(digest, one) for _, one in rows),
    )
    return Section(title=title, blocks=(table,), id="movers")


def _mover(digest: Digest, one: Mover) -> tuple[str | Cell, ...]:
    told = _rate_difference(one)
    sure = one.p_adjusted is not None and one.p_adjusted <= ALPHA
    rose: Tone = "good" if (one.rate or 0.0) > (one.rate_before or 0.0) else "bad"
    return (
        name_of(digest, one.offer_id),
        amounts.amount(one.now.value, "currency", digest.currency),
        amounts.difference(one.gained, "currency", digest.currency),
        f"{one.now.shown:,}",
        f"{one.before.shown:,}",
        _rate(one.rate),
        _rate(one.rate_before),
        Cell((Strong(told),), rose) if sure else told,
    )


def _rate(rate: float | None) -> str:
    return amounts.DASH if rate is None else amounts.amount(rate, "share")


def _rate_difference(one: Mover) -> str:
    if one.rate is None or one.rate_before is None or one.rate_low is None or one.rate_high is None:
        return amounts.DASH
    points = f"{amounts.difference(one.rate_low, 'share')} … {amounts.difference(one.rate_high, 'share')}"
    return f"{amounts.difference(one.rate - one.rate_before, 'share')} ({points})"


def likings_section(digest: Digest) -> Section:
    found, title = digest.likings, "Who likes or rejects what"
    if found.basis is None:
        return Section(title=title, blocks=(Paragraph(f"Not known: {found.why}."),), id="likings")
    blocks: list[Block] = [Paragraph(BASIS[found.basis])]
    if found.expected is not None:
        overall = (
            f"In all, {found.accepted:,} of {found.n_impressions:,} impressions were accepted where "
            f"{amounts.whole(found.expected)} were expected (p = {amounts.chance(found.p_overall)})."
        )
        off = found.p_overall is not None and found.p_overall <= ALPHA
        more = " The model is off for everybody, so read what follows against that." if off else ""
        blocks.append(Paragraph(overall + more, "warn" if off else "plain"))
    shown = (*found.likes[:MOST], *found.rejects[:MOST])
    picture = likings_picture(digest, shown)
    looked = (
        f"{found.n_looks:,} combinations of a segment and an offer were looked at "
        f"({', '.join(found.segments)}); {found.n_small:,} more had too few impressions or expected acceptances."
    )
    if picture is None:
        blocks.append(Paragraph(f"{looked} None is further from what was expected than chance allows."))
    else:
        blocks += [picture, _likings_table(digest, shown), Paragraph(looked, "muted")]
        rest = len(found.likes) + len(found.rejects) - len(shown)
        if rest:
            blocks.append(Paragraph(f"{rest:,} more are in the JSON.", "muted"))
    if found.skipped:
        text = f"Not looked at, for their many values: {', '.join(found.skipped)}."
        blocks.append(Fold("Attributes left out", (Paragraph(text),)))
    return Section(title=title, blocks=tuple(blocks), id="likings")


def _likings_table(digest: Digest, shown: Sequence[Liking]) -> Table:
    columns = (
        Column("Segment"), Column("Offer"), Column("Impressions", right=True), Column("Accepted", right=True),
        Column("Expected", right=True), Column("Difference", right=True), Column("p, corrected", right=True),
    )  # fmt: skip
    return Table(
        caption="Impressions whose attribution window ended in the week. p-values are corrected for all looks "
        "(Benjamini-Hochberg).",
        columns=columns,
        rows=tuple(
            (
                f"{one.segment}: {one.value}",
                name_of(digest, one.offer_id),
                f"{one.n:,}",
                f"{one.accepted:,}",
                f"{one.expected:,.1f}",
                Cell(amounts.difference(one.difference, "share"), "good" if one.difference > 0 else "bad"),
                amounts.chance(one.p_adjusted),
            )
            for one in shown
        ),
    )


def name_of(digest: Digest, offer_id: str) -> str:
    """The offer's name with its id, as names may be alike."""
    name = digest.offer_names.get(offer_id)
    return offer_id if name is None or name == offer_id else f"{name} ({offer_id})"
