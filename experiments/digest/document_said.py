"""The digest's section on what customers said."""

from __future__ import annotations

from experiments.digest.digest import Digest
from experiments.digest.said import FEWEST_PEOPLE, LONGEST, Answers
from experiments.report.document import Block, Bullets, Column, Fold, Paragraph, Quote, Section, Table

SCALES = {"nps": "Net promoter score, 0 to 10", "csat": "Satisfaction, 1 to 5", "ces": "Ease, 1 to 7"}
PRIVACY = (
    f"Words and reasons are told when at least {FEWEST_PEOPLE} people used them. Texts are quoted when they have at "
    f"most {LONGEST} characters and hold no digit, address, handle or customer id. Names of people cannot be told from "
    "other words: whoever passes this digest on should read the quotes first, or have it made with --quotes 0."
)


def said_section(digest: Digest) -> Section:
    """Scores, words, reasons and a few texts; how they were chosen is in a fold."""
    said = digest.said
    blocks: list[Block] = []
    if said.answers:
        blocks.append(_scores(digest))
    if said.words:
        blocks.append(
            Paragraph(
                f"Most frequent words of {said.n_texts:,} texts by {said.n_people:,} people: "
                + ", ".join(f"{one.text} ({one.people:,})" for one in said.words)
                + "."
            )
        )
    elif said.n_texts:
        blocks.append(Paragraph(f"{said.n_texts:,} texts, and no word that {FEWEST_PEOPLE} people used."))
    if said.reasons:
        columns = (Column("Reason"), Column("Given with"), Column("People", right=True))
        rows = tuple((one.text, one.event_type.replace("_", "-"), f"{one.people:,}") for one in said.reasons)
        blocks.append(Table(caption="Why customers dismissed, rejected, left or wrote.", columns=columns, rows=rows))
    if said.n_rare_reasons:
        blocks.append(
            Paragraph(
                f"{said.n_rare_reasons:,} more reasons were each given by fewer than {FEWEST_PEOPLE} people.", "muted"
            )
        )
    blocks += [Quote(one.text, one.score) for one in said.quotes]
    if not blocks:
        blocks.append(Paragraph("Nobody gave feedback or a reason in this week."))
    elif said.n_texts or said.reasons:
        blocks.append(Fold("How texts are chosen, and whom that protects", (Paragraph(PRIVACY),)))
    return Section(title="What customers said", blocks=tuple(blocks), id="said")


def _scores(digest: Digest) -> Bullets:
    return Bullets(tuple(f"{SCALES[one.scale]}: {one.n:,} answers ({_spread(one)})" for one in digest.said.answers))


def _spread(one: Answers) -> str:
    return ", ".join(f"{n:,} × {answer}" for answer, n in one.counts if n)
