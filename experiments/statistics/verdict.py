"""The verdict in plain words: ship, stop, keep running, or do not trust, and why.

First comes whether the numbers can be believed at all, then harm, then the decision that was planned for. Harm of one
variant stops the whole experiment, unless another may ship: who runs cannot drop one of its variants. Nothing here
computes a statistic; it reads them in this order and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from experiments.statistics.effect import Effect
from experiments.statistics.guardrails import Guarded
from experiments.statistics.reasons import NO_WINDOW, why_unknown
from experiments.statistics.sample_ratio import SampleRatio
from experiments.statistics.sequential import FEWEST_UNITS, Look, Path

Decision = Literal["ship", "stop", "keep running", "do not trust"]
CROSSED_LIMIT = 0.01  # share of units that met two variants; more is a fault of the assignment
FOREIGN_LIMIT = 0.01  # purchases in other currencies per unit
FULL_WEEK = 7  # days: behaviour of a Monday is not that of a Sunday


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a variant (or, in summary, with the experiment), and the sentences that say why."""

    decision: Decision
    variant: str | None
    reasons: tuple[str, ...]
    harm: bool = False  # a guardrail rang, or the primary metric is worse for sure


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict on one variant looks at."""

    title: str  # of the primary metric
    share: bool  # whether absolute changes of it are spoken of in percentage points
    path: Path
    sample_ratio: SampleRatio
    guardrails: tuple[Guarded, ...] = ()
    n_units: int = 0
    n_crossed: int = 0
    foreign_purchases: dict[str, int] = msgspec.field(default_factory=dict)  # by currency, if the metric is of money
    planned_units: int | None = None
    running: bool = True
    days: float = 0.0


def verdict(evidence: Evidence) -> Verdict:
    """On one variant."""
    decide, reasons = _decide(evidence)
    path = evidence.path
    harm = any(one.state == "alarm" for one in evidence.guardrails) or path.harm_at is not None
    return Verdict(
        decision=decide,
        variant=path.variant,
        reasons=tuple(reasons),
        harm=harm or path.outcome == "worse",
    )


def summary(verdicts: Sequence[Verdict], paths: Sequence[Path]) -> Verdict:
    """On the experiment: distrust of one is distrust of all; then the best that may ship; then harm of any, which
    stops it; then what is still open.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    harm = any(one.harm for one in verdicts)
    distrusted = [one for one in verdicts if one.decision == "do not trust"]
    if distrusted:
        return msgspec.structs.replace(distrusted[0], variant=None, harm=harm)
    ships = [i for i, one in enumerate(verdicts) if one.decision == "ship"]
    harmful = [one for one in verdicts if one.harm]
    if ships:
        best = max(ships, key=lambda i: abs(_at(paths[i], paths[i].decided_at).effect.absolute or 0.0))
        others = len(ships) - 1
        more = (f"{others} more would be worth shipping; this one was decided on the largest effect",) if others else ()
        reasons = (*verdicts[best].reasons, *more, *_each(harmful))
        return msgspec.structs.replace(verdicts[best], reasons=reasons, harm=harm)
    open_ = [one for one in verdicts if one.decision == "keep running"]
    if harmful:
        named = harmful[0].variant if len(harmful) == 1 else None
        return Verdict(decision="stop", variant=named, reasons=(*_each(harmful), *_go_on(open_)), harm=True)
    if open_:
        return msgspec.structs.replace(open_[0], variant=None, reasons=_each(verdicts))
    return Verdict(decision="stop", variant=None, reasons=_each(verdicts))


def _go_on(open_: Sequence[Verdict]) -> tuple[str, ...]:
    if not open_:
        return ()
    names = ", ".join(one.variant or "" for one in open_)
    return (f"still open: {names}; a running experiment cannot drop a variant, so go on in a new one without the harm",)


class Held(NamedTuple):
    """A change with an interval that holds however often one has looked."""

    value: float
    low: float
    high: float
    relative: bool  # variant / control - 1, which is there where it means something; else the absolute change


def held(look: Look) -> Held | None:
    """None if nothing could be computed."""
    effect = look.effect
    if effect.absolute is None or effect.absolute_low is None or effect.absolute_high is None:
        return None
    wider = _wider(look)
    if effect.relative is not None and effect.relative_low is not None and effect.relative_high is not None:
        low, high = ((1 + end) ** wider * (1 + effect.relative) ** (1 - wider) - 1 for end in _relative_ends(effect))
        return Held(effect.relative, low, high, relative=True)
    low, high = (effect.absolute + wider * (end - effect.absolute) for end in _ends(effect))
    return Held(effect.absolute, low, high, relative=False)


def in_points(unit: str) -> bool:
    """Whether absolute changes of a metric of this unit are told in percentage points; customers are a share of all."""
    return unit in ("share", "customers")


def in_words(look: Look, share: bool) -> str:
    """The change with its interval; absolute changes of shares in percentage points."""
    seen = held(look)
    if seen is None:
        return "not known"
    if seen.relative:
        return f"{seen.value:+.1%} (between {seen.low:+.1%} and {seen.high:+.1%})"
    if share:
        return f"{100 * seen.value:+.2f} points (between {100 * seen.low:+.2f} and {100 * seen.high:+.2f})"
    return f"{seen.value:+.4g} (between {seen.low:+.4g} and {seen.high:+.4g})"


def _wider(look: Look) -> float:
    """How many times as wide as its own interval the effect's interval is when looks are allowed for."""
    low, high = (look.low, look.high) if look.low is not None else (look.always_low, look.always_high)
    own_low, own_high = _ends(look.effect)
    return (high - low) / (own_high - own_low) if low is not None and high is not None and own_high > own_low else 1.0


def _ends(effect: Effect) -> tuple[float, float]:
    assert effect.absolute_low is not None
    assert effect.absolute_high is not None
    return effect.absolute_low, effect.absolute_high


def _relative_ends(effect: Effect) -> tuple[float, float]:
    assert effect.relative_low is not None
    assert effect.relative_high is not None
    return effect.relative_low, effect.relative_high


def _decide(e: Evidence) -> tuple[Decision, list[str]]:
    doubts = _doubts(e)
    alarms = [_alarm(one) for one in e.guardrails if one.state == "alarm"]
    if doubts:
        return "do not trust", doubts + alarms
    if alarms:
        return "stop", alarms
    if e.path.harm_at is not None:
        return "stop", [
            f"{e.title} is worse, whenever one looks: {_change(e, e.path.harm_at)} since {e.path.harm_at:%Y-%m-%d}",
            *_since(e, e.path.harm_at),
        ]
    waits = _too_early(e)
    if waits:
        return ("keep running", waits) if e.running else ("do not trust", waits)
    if e.path.outcome == "worse":
        return "stop", _decided(e, "worse")
    if e.path.outcome == "better":
        return _ship(e)
    return _undecided(e)


def _doubts(e: Evidence) -> list[str]:
    reasons = []
    if e.sample_ratio.mismatch:
        seen = ", ".join(f"{n:,} {name}" for name, n in e.sample_ratio.observed.items())
        want = ", ".join(f"{n:,.0f} {name}" for name, n in e.sample_ratio.expected.items())
        reasons.append(
            f"sample ratio: {seen} units were seen where {want} were to be expected "
            f"(p = {e.sample_ratio.p_sequential:.1g}): some units are lost or counted twice, and not at random"
        )
    total = e.n_units + e.n_crossed
    if total and e.n_crossed / total > CROSSED_LIMIT:
        reasons.append(f"{e.n_crossed:,} of {total:,} units met more than one variant; more than 1 %")
    foreign = sum(e.foreign_purchases.values())
    if total and foreign / total > FOREIGN_LIMIT:
        named = ", ".join(f"{n:,} in {currency}" for currency, n in sorted(e.foreign_purchases.items()))
        reasons.append(f"{e.title} would mix currencies: {named} had to be left out")
    return reasons


def _too_early(e: Evidence) -> list[str]:
    effect = _last(e.path) if e.path.looks else None
    if effect is None:
        return ["no unit was exposed yet"]
    if not effect.known and NO_WINDOW in why_unknown(effect):
        return [f"{e.title} could not be computed: {why_unknown(effect)}"]
    n = min(effect.n_control, effect.n_variant)
    if n < FEWEST_UNITS:
        return [f"too few: {n:,} units in the smaller variant, {FEWEST_UNITS} are the least to say anything"]
    if not effect.known:
        return [f"{e.title} could not be computed: {why_unknown(effect)}"]
    return []


def _ship(e: Evidence) -> tuple[Decision, list[str]]:
    reasons = _decided(e, "better")
    beyond = [one for one in e.guardrails if one.beyond]
    if beyond:
        names = ", ".join(one.metric for one in beyond)
        reasons.append(f"but beyond its limit, though not for sure yet: {names}")
        return ("keep running" if e.running else "do not trust"), reasons
    if e.days < FULL_WEEK:
        if e.running:
            return "keep running", [*reasons, f"but it ran for {e.days:.1f} days: let it see a whole week"]
        return "do not trust", [*reasons, f"but it was stopped after {e.days:.1f} days and never saw a whole week"]
    unsure = [one.metric for one in e.guardrails if one.state in ("open", "unknown")]
    if unsure:
        reasons.append(f"not shown to be within their limits, nor beyond: {', '.join(unsure)}")
    return "ship", reasons


def _undecided(e: Evidence) -> tuple[Decision, list[str]]:
    seen = f"{e.title} {_change(e)}: no difference is proven"
    if e.path.complete:
        return "stop", [f"{seen}, and all {e.planned_units:,} planned units are in"]
    if not e.running:
        return "stop", [f"{seen}: it was stopped {_stopped(e)}; the moment of stopping is no look that may decide"]
    waits = _waits(e, seen)
    beyond = ", ".join(one.metric for one in e.guardrails if one.beyond)
    return "keep running", [waits, *([f"beyond its limit, though not for sure yet: {beyond}"] if beyond else [])]


def _waits(e: Evidence, seen: str) -> str:
    if e.planned_units is None:
        return f"{seen} yet; it has no planned size, so that it never ends by itself"
    if e.path.looks[-1].n >= e.planned_units:
        return f"{seen} yet; all planned units are in, and the next planned look decides"
    return f"{seen} yet; {e.path.looks[-1].n:,} of {e.planned_units:,} planned units are in"


def _stopped(e: Evidence) -> str:
    if e.planned_units is None:
        return "before a look decided"
    if e.path.looks[-1].n >= e.planned_units:
        return "after all planned units were in, but before the next planned look"
    return "before its plan was reached"


def _alarm(one: Guarded) -> str:
    word = "more" if one.side == "max" else "less"
    return f"guardrail: {one.metric} changed by {word} than its limit of {one.limit:+.1%} (now {_now(one)})"


def _now(one: Guarded) -> str:
    """Levels where a ratio of them means nothing, such as above a control of 0."""
    if one.relative is not None:
        return f"{one.relative:+.1%}"
    if one.level_control is None or one.level_variant is None:
        return "not known"
    return f"{one.level_variant:.4g} against {one.level_control:.4g} of control"


def _decided(e: Evidence, word: str) -> list[str]:
    """What decided, as it was then: later looks, which decide nothing, may show something else."""
    at = e.path.decided_at
    return [f"{e.title} is {word}: {_change(e, at)}, decided on {at:%Y-%m-%d}", *_since(e, at)]


def _since(e: Evidence, at: datetime | None) -> list[str]:
    """What became of it, if it was turned round or is no longer beyond doubt."""
    then, now = held(_at(e.path, at)), held(e.path.looks[-1])
    if then is None or now is None or e.path.looks[-1].at == at:
        return []
    if then.value * now.value < 0:
        return [f"but it has turned since: now {_change(e)}"]
    return [f"since then less sure: now {_change(e)}"] if now.low <= 0 <= now.high else []


def _change(e: Evidence, at: datetime | None = None) -> str:
    """As of a look; None: the last one."""
    return in_words(_at(e.path, at), e.share)


def _at(path: Path, at: datetime | None) -> Look:
    return next((look for look in path.looks if look.at == at), path.looks[-1])


def _last(path: Path) -> Effect:
    return path.looks[-1].effect


def _each(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    return tuple(f"{one.variant}: {reason}" for one in verdicts for reason in one.reasons)
