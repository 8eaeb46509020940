"""From the live log to what off-policy evaluation reads: choices, their chances, candidates' chances, and rewards."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from experiments.offpolicy.logged import Logged
from experiments.offpolicy.variation import UNSEEN
from features.errors import BadInput, InputsExpired, NotFound
from features.events import US_PER_DAY, to_us
from features.facts import Facts
from features.log import Decided, DecisionRow, Log
from serving.evaluation.candidates import Candidate, Choice, Chooser
from serving.evaluation.learned import LearnedInOrder
from serving.evaluation.outcomes import Reward, Watch, outcomes_of
from serving.inputs import KEPT_DAYS, KeptInputs
from serving.learning.learner import own_windows_of
from serving.policies import DECIDING
from serving.replay import Past, Replayer
from serving.settings import Settings

Numbers = NDArray[np.float64]
MOST_DECISIONS = 20_000
MOST_CELLS = 25_000_000  # rows times offers of one table in memory
MOST_LEVELS = 12  # of a category that becomes columns
UNLIKE_SHARE = 0.01  # of decisions that came out otherwise than logged: above it, nothing of the log is trusted
LEFT_OUT: Mapping[str, str] = {
    "open": "whose outcome may still come",
    "in_training": "that the candidate's release may have learned from",
    "expired": "whose inputs are no longer kept",
    "policy_gone": "by a policy that does not exist any more",
    "holdout": "of customers kept free of personalisation, which no release decided (a --release takes them in)",
    "redrawn": "that were drawn again after a lost race for a last unit",
    "fallback": "where only the fallback was left (its chance is 1 whatever the policy)",
    "guaranteed": "of a guaranteed offer (its chance is 1 whatever the policy)",
    "empty": "where no offer was eligible",
    "unlike": "that came out otherwise than logged",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be evaluated, on which part of the log."""

    candidates: tuple[Candidate, ...]
    reward: Reward
    since: datetime | None = None
    until: datetime | None = None
    placement: str | None = None  # None: all
    most: int = MOST_DECISIONS
    not_before_us: int | None = None  # decisions before it may have been learned from


@dataclass(frozen=True, slots=True)
class ChoiceLog:
    """What was read. `tables` are the chances of each candidate, (n, n_offers), on the axis of `logged`."""

    logged: Logged  # with the chances of the first candidate
    tables: tuple[Numbers, ...]
    left_out: Mapping[str, int]  # by `LEFT_OUT`, only what there is
    n_decisions: int  # that were looked at
    n_older: int  # that were not, as there are newer ones enough
    n_degraded: int  # of the rows: chances are still those that were drawn from
    n_unseen: int  # of the rows: without an impression in the log
    since_us: int
    until_us: int
    currency: str

    @property
    def beforehand(self) -> tuple[str, ...]:
        """What must be said of the log before anything that follows from it."""
        return (UNSEEN,) if self.n_unseen == len(self.logged) else ()


def read_choices(
    settings: Settings,
    facts: Facts,
    log: Log,
    wanted: Wanted,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> ChoiceLog:
    """Every first rank of the newest decisions whose outcome is known. `BadInput` with the counts if none is left,
    `NotFound` for a placement that there never was.
    """
    data, now_us = facts.data_settings(), to_us(settings.now())
    catalogue = facts.catalogue()
    if wanted.placement is not None and wanted.placement not in {one.placement_id for one in catalogue.placements}:
        raise NotFound("placement", wanted.placement)
    watch = Watch(data.attribution, own_windows_of(catalogue.offers, data.attribution))
    left_out: Counter[str] = Counter()
    newest, n_found = _asked_for(log, wanted, now_us, watch, left_out)
    if not newest:
        raise BadInput(f"the log holds no decision to evaluate{_told(left_out)}", "log")
    inputs, learned = KeptInputs(settings.home.state_db, settings.now), LearnedInOrder(settings.home.learning_db)
    try:
        past = Past(settings, settings.now, log.decision, facts.catalogue_at, inputs, learned)
        chooser = Chooser(Replayer(past), wanted.candidates)
        learned.on_asked = chooser.placement_begins
        choices = list(_choices(chooser, log, newest, wanted.placement, left_out, progress))
    finally:
        learned.close()
        inputs.close()
    if left_out["unlike"] > UNLIKE_SHARE * (len(choices) + left_out["unlike"]):
        raise BadInput(
            f"{left_out['unlike']:,} of {len(choices) + left_out['unlike']:,} choices come out otherwise than logged: "
            "their chances cannot be trusted (were they made by another version of this service?)",
            "log",
        )
    if not choices:
        raise BadInput(f"the log holds no choice to evaluate{_told(left_out)}", "log")
    who = {alias: customer for customer, joined in facts.identities().items() for alias, _ in joined}
    outcomes = outcomes_of(choices, log, watch, wanted.reward, data.currency, who)
    logged, tables = _tables(choices, outcomes.reward, wanted.reward, who)
    return ChoiceLog(
        logged=logged,
        tables=tables,
        left_out={name: left_out[name] for name in LEFT_OUT if left_out[name]},
        n_decisions=len(newest),
        n_older=n_found - len(newest),
        n_degraded=sum(one.degraded for one in choices),
        n_unseen=int((~outcomes.seen).sum()),
        since_us=min(one.decided_us for one in choices),
        until_us=max(one.decided_us for one in choices),
        currency=data.currency,
    )


def _asked_for(
    log: Log, wanted: Wanted, now_us: int, watch: Watch, left_out: Counter[str]
) -> tuple[Sequence[Decided], int]:
    """The newest decisions of those asked for, and how many there are."""
    since_us = None if wanted.since is None else to_us(wanted.since)
    until_us = None if wanted.until is None else to_us(wanted.until)
    newest: deque[Decided] = deque(maxlen=wanted.most)
    n_found = 0
    for one in _decided(log):
        if (since_us is not None and one.decided_us < since_us) or (
            until_us is not None and one.decided_us >= until_us
        ):
            continue
        if one.decided_us + watch.longest_us > now_us:
            left_out["open"] += 1
        elif wanted.not_before_us is not None and one.decided_us < wanted.not_before_us:
            left_out["in_training"] += 1
        elif now_us - one.decided_us > KEPT_DAYS * US_PER_DAY:
            left_out["expired"] += 1
        else:
            newest.append(one)
            n_found += 1
    return newest, n_found


def _decided(log: Log) -> Iterator[Decided]:
    position = 0
    while rows := log.decided_after(position, 50_000):
        position = rows[-1].position
        yield from rows


def _choices(
    chooser: Chooser,
    log: Log,
    decided: Sequence[Decided],
    placement: str | None,
    left_out: Counter[str],
    progress: Callable[[int, int], None],
) -> Iterator[Choice]:
    for n, one in enumerate(decided):
        if n % 200 == 0:
            progress(n, len(decided))
        row = log.decision(one.decision_id)
        if row is None:
            continue  # its customer was erased meanwhile
        policy = _policy_of(row)
        if policy is not None and policy not in DECIDING:
            left_out["policy_gone"] += 1
            continue
        try:
            found = chooser.choices(row)
        except InputsExpired:
            left_out["expired"] += 1
            continue
        for choice in found:
            if isinstance(choice, str):
                left_out[choice] += 1
            elif placement is None or choice.placement_id == placement:
                yield choice


class _Made(msgspec.Struct, frozen=True):
    """What is asked of a row before it is read as a whole."""

    policy: str


def _policy_of(row: DecisionRow) -> str | None:
    """None where the row does not say, as old ones do not: these are expired, which reading the whole row tells."""
    try:
        return msgspec.json.decode(row.payload, type=_Made).policy
    except msgspec.DecodeError:
        return None


def _told(left_out: Mapping[str, int]) -> str:
    said = [f"{left_out[name]:,} {words}" for name, words in LEFT_OUT.items() if left_out.get(name)]
    return f"; left out: {', '.join(said)}" if said else ""


def _tables(
    choices: Sequence[Choice], reward: Numbers, kind: Reward, who: Mapping[str, str]
) -> tuple[Logged, tuple[Numbers, ...]]:
    """Choices of many catalogues on one axis: the offers that had any chance."""
    names = sorted({offer.offer_id for view in {id(c.view): c.view for c in choices}.values() for offer in view.offers})
    if len(names) * len(choices) > MOST_CELLS:
        raise BadInput(
            f"{len(choices):,} choices among {len(names):,} offers do not fit in memory; ask for at most "
            f"{MOST_CELLS // len(names):,} decisions (--most)",
            "most",
        )
    column = {name: i for i, name in enumerate(names)}
    axis = {id(c.view): np.array([column[o.offer_id] for o in c.view.offers]) for c in choices}
    candidates = range(len(choices[0].wanted))
    shape = (len(choices), len(names))
    propensity, estimate, worth = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    tables = [np.zeros(shape) for _ in candidates]
    for i, one in enumerate(choices):
        at = axis[id(one.view)]
        propensity[i, at], estimate[i, at], worth[i, at] = one.logged, one.p_accept, one.view.value
        for k in candidates:
            tables[k][i, at] = one.wanted[k]
    action = np.array([axis[id(one.view)][one.shown] for one in choices])
    held = (propensity > 0.0).any(axis=0)
    for table in tables:
        held |= (table > 0.0).any(axis=0)
    kept = np.flatnonzero(held)
    customers: dict[str, int] = {}
    unit = [customers.setdefault(who.get(one.customer_id, one.customer_id), len(customers)) for one in choices]
    tables = [table[:, kept] for table in tables]
    logged = Logged(
        offers=tuple(names[i] for i in kept.tolist()),
        action=np.searchsorted(kept, action),
        probability=np.array([one.probability for one in choices]),
        reward=reward,
        chances=tables[0],
        propensity=propensity[:, kept],
        context=_context(choices),
        estimate=estimate[:, kept],
        worth=worth[:, kept] if kind.pays == "value" else None,
        unit=np.array(unit),
    )
    return logged, tuple(tables)


def _context(choices: Sequence[Choice]) -> Numbers:
    """Features of the customer as columns: numbers that differ, and the levels of categories that have few."""
    columns: list[Numbers] = [np.array([one.placement_id == name for one in choices], np.float64)
                              for name in sorted({one.placement_id for one in choices})[1:]]  # fmt: skip
    for name in sorted({name for one in choices[:1] for name in one.features}):
        values: list[Any] = [one.features.get(name) for one in choices]
        if all(value is None or isinstance(value, int | float) for value in values):
            numbers = np.array([np.nan if value is None else float(value) for value in values])
            known = numbers[np.isfinite(numbers)]
            if known.size and (known.min() < known.max() or known.size < numbers.size):
                columns.append(numbers)
        elif all(value is None or isinstance(value, str) for value in values):
            levels = sorted({value for value in values if value is not None})
            if len(levels) <= MOST_LEVELS:
                columns += [np.array([value == level for value in values], np.float64) for level in levels]
    return np.column_stack(columns) if columns else np.zeros((len(choices), 0))
