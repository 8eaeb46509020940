"""What customers got: coverage of the catalogue, empty places, what limits hold back, late and degraded answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from features.events import US_PER_DAY
from training.monitoring.line import Line, above, below, shown, unknown
from training.monitoring.seen import Seen
from training.monitoring.thresholds import Thresholds

LIMITS = ("caps", "inventory", "budget", "pacing", "cooldown", "pause", "contact_policy")  # rules that count something


def too_few(seen: Seen, held: Thresholds) -> str:
    return f"{len(seen.decisions):,} decisions in the window, {held.min_decisions} are needed"


def coverage(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """How much of the catalogue was shown, and to whom nothing could be."""
    made = seen.shown
    if len(seen.decisions) < held.min_decisions:
        yield unknown("coverage", "", too_few(seen, held))
        return
    offers = {offer.offer_id for offer in seen.on_sale}
    counts = Counter(made.loc[made["offer_id"].isin(offers), "offer_id"])
    if offers:
        said = f"{len(counts):,} of {len(offers):,} offers on sale were shown"
        yield below("offers_shown", "", len(counts) / len(offers), held.offers_shown, said)
        top = sum(n for _, n in counts.most_common(max(len(offers) // 10, 1))) / max(sum(counts.values()), 1)
        yield shown("top_tenth", "", top, "share of what was shown that the most shown tenth of the offers had")
    empty = made["offer_id"].isna()
    yield above(
        "empty", "", float(empty.mean()), held.empty, f"{int(empty.sum()):,} of {len(made):,} rows are empty places"
    )
    fallback = float(made.loc[~empty, "is_fallback"].mean()) if (~empty).any() else 0.0
    yield shown("fallback", "", fallback, "share of shown offers that are a placement's fallback")


def headroom(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """How much caps and limits hold back, and how long inventory and today's budgets last."""
    passed, dropped, enough = 0, 0, len(seen.decisions) >= held.min_decisions
    for placements in seen.decisions["support"]:
        for support in placements:
            passed += int(support.get("n_eligible", 0))
            dropped += sum(n for rule, n in support.get("dropped", {}).items() if rule.startswith(LIMITS))
    if enough and passed + dropped:
        said = f"of {passed + dropped:,} offers that other rules let pass, caps and limits held {dropped:,} back"
        yield above("held_back", "", dropped / (passed + dropped), held.held_back, said)
    else:
        yield unknown("held_back", "", too_few(seen, held))
    days = max((seen.until_us - seen.since_us) / US_PER_DAY, 1e-9)
    shown_of = Counter(seen.shown["offer_id"].dropna())
    used = dict(seen.levels)
    for offer in seen.on_sale:
        level = used.get(offer.offer_id)
        if offer.inventory is not None:
            left = max(offer.inventory - (level.units if level else 0), 0)
            rate = shown_of[offer.offer_id] / days
            lasts = f", about {left / rate:.1f} days at {rate:.1f} shown a day" if rate else ""
            share = left / offer.inventory if offer.inventory else 0.0
            yield shown("inventory_left", offer.offer_id, share, f"{left:,} of {offer.inventory:,} left{lasts}")
        if offer.budget is not None and offer.budget.amount:
            spent = 0.0 if level is None else level.spent_today if offer.budget.per == "day" else level.spent
            said = f"{spent:,.2f} of {offer.budget.amount:,.2f} {offer.currency} per {offer.budget.per} used"
            yield shown("budget_left", offer.offer_id, max(1.0 - spent / offer.budget.amount, 0.0), said)


def degraded(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """Answers that left something out, and those that came after their deadline."""
    made = seen.decisions
    if len(made) < held.min_decisions:
        yield unknown("degraded", "", too_few(seen, held))
        return
    codes = Counter(code for of in made["degraded"] for code in set(of))
    share = float(np.mean([len(of) > 0 for of in made["degraded"]]))
    said = ", ".join(f"{code} {n:,}" for code, n in codes.most_common(3)) or "none"
    yield above("degraded", "", share, held.degraded, f"of {len(made):,} decisions: {said}")
    timed = made[made["latency_us"].notna()]
    if len(timed):
        late = float((timed["latency_us"] > timed["deadline_us"]).mean())
        p99 = float(np.quantile(timed["latency_us"], 0.99)) / 1_000
        yield above("late", "", late, held.late, f"beyond their deadline; p99 {p99:.1f} ms of being decided")


def model_age(seen: Seen, held: Thresholds) -> Iterator[Line]:
    """How long ago the champion's data ended."""
    if seen.champion is None:
        yield unknown("model_age_days", "", "no release serves yet: run `nbo train` and `nbo models promote`")
        return
    from features.events import parse_time, to_us

    as_of = seen.champion.manifest["as_of"]
    age = (seen.until_us - to_us(parse_time(as_of, "as_of"))) / US_PER_DAY
    yield above("model_age_days", seen.champion.number, age, held.model_age_days, f"its data ended {as_of}")
