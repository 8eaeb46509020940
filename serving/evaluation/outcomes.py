"""What came of each choice, by the rules of attribution: REWARDS, one entry each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.attribution import NEVER, Touches, match
from features.data_settings import Attribution
from features.errors import BadInput
from features.events import BY_NAME, US_PER_DAY
from features.log import Log, LogEvent
from serving.evaluation.candidates import Choice

Numbers = NDArray[np.float64]
CHUNK = 50_000  # events in memory
SEEN_AFTER_US = 3_600_000_000  # an impression may follow its decision by as much as that


@dataclass(frozen=True, slots=True)
class Reward:
    """What a choice earns."""

    title: str
    unit: str  # "share" or "currency"
    outcomes: tuple[str, ...] = ()  # event types; empty: those of the deployment's attribution
    pays: str = "one"  # "one", "value" of the offer as decided, or "spent": the values of the events


REWARDS: Mapping[str, Reward] = {
    "accept": Reward("acceptances per choice", "share"),
    "value": Reward("value accepted per choice", "currency", pays="value"),
    "click": Reward("clicks per choice", "share", outcomes=("click",)),
    "revenue": Reward("revenue per choice", "currency", outcomes=("purchase",), pays="spent"),
}


def reward_named(name: str) -> Reward:
    """`BadInput` for a reward that does not exist."""
    if name not in REWARDS:
        raise BadInput(f"reward is {name!r}, expected one of {', '.join(REWARDS)}", "reward")
    return REWARDS[name]


@dataclass(frozen=True, slots=True)
class Watch:
    """For how long outcomes are waited for."""

    attribution: Attribution
    own_windows: Mapping[str, float]  # days, of offers that have their own

    def window_us(self, offer_id: str) -> int:
        return int(self.own_windows.get(offer_id, self.attribution.window_days) * US_PER_DAY)

    def watched_us(self, offer_id: str) -> int:
        most = self.attribution.at_most_days
        window_us = self.window_us(offer_id)
        return window_us if most is None else min(window_us, int(most * US_PER_DAY))

    @property
    def longest_us(self) -> int:
        """From a decision until the outcome of any offer is known: the same for all, so that what is left out does not
        depend on what was shown."""
        days = max([self.attribution.window_days, *self.own_windows.values()])
        if self.attribution.at_most_days is not None:
            days = min(days, self.attribution.at_most_days)
        return int(days * US_PER_DAY) + SEEN_AFTER_US


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Arrays (n,), on the axis of the choices."""

    reward: Numbers
    seen: NDArray[np.bool_]  # whether the log holds an impression


def outcomes_of(
    choices: Sequence[Choice], log: Log, watch: Watch, reward: Reward, currency: str, who: Mapping[str, str]
) -> Outcomes:
    """The reward of each choice. `who` says which customer a visitor turned out to be.

    A choice that nobody saw counts too: whether it was seen came after it, and it earned what it earned. `BadInput`
    when amounts are in more than one currency.
    """
    kinds = {kind.name for kind in BY_NAME.values() if kind.exposure} | set(_types(reward, watch))
    decisions = {one.decision_id for one in choices}
    customers = {who.get(one.customer_id, one.customer_id) for one in choices}
    since_us = min(one.decided_us for one in choices) - watch.longest_us  # older impressions earn nothing any more
    events = [
        one
        for one in _events(log, kinds)
        if one.occurred_us >= since_us
        and (one.decision_id in decisions or who.get(one.customer_id, one.customer_id) in customers)
    ]
    if reward.pays == "spent":
        return _spent(choices, events, watch, reward, currency)
    if reward.pays == "value":
        _check_one_currency(choices, currency)
    taken_us, seen, seen_us = _taken(choices, events, watch, reward, who)
    watched = np.array([watch.watched_us(_shown(one)) for one in choices], np.int64)
    accepted = (taken_us != NEVER) & (taken_us - seen_us <= watched)
    amount = np.array([one.view.value[one.shown] for one in choices]) if reward.pays == "value" else 1.0
    return Outcomes(np.where(accepted, amount, 0.0), seen)


def _types(reward: Reward, watch: Watch) -> tuple[str, ...]:
    return reward.outcomes or watch.attribution.outcomes


def _shown(choice: Choice) -> str:
    return choice.view.offers[choice.shown].offer_id


def _events(log: Log, kinds: set[str]) -> Iterator[LogEvent]:
    position = 0
    while events := log.events_after(position, CHUNK):
        position = events[-1].position
        yield from (one for one in events if one.event_type in kinds and one.offer_id is not None)


def _taken(
    choices: Sequence[Choice],
    events: Sequence[LogEvent],
    watch: Watch,
    reward: Reward,
    who: Mapping[str, str],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """When each choice was taken (`NEVER`), whether it was seen, and when it was seen, or else decided; (n,).

    Choices that were not seen come after all impressions and belong to nobody: an outcome must name their decision.
    """
    decisions, customers, offers = _Codes(), _Codes(), _Codes()
    shown: list[tuple[int, int, int, int]] = []
    first: dict[tuple[int, int], int] = {}
    for one in sorted((e for e in events if BY_NAME[e.event_type].exposure), key=lambda e: (e.occurred_us, e.event_id)):
        customer, decision = who.get(one.customer_id, one.customer_id), one.decision_id
        at = (customers[customer], offers[one.offer_id or ""], -1 if decision is None else decisions[decision])
        first.setdefault((at[2], at[1]), len(shown))
        shown.append((*at, one.occurred_us))
    mine = []
    for choice in choices:
        pair = decisions[choice.decision_id], offers[_shown(choice)]
        if pair in first:
            mine.append(first[pair])
        else:
            mine.append(len(shown))
            shown.append((-1, pair[1], pair[0], choice.decided_us))
    seen = np.array([(decisions[c.decision_id], offers[_shown(c)]) in first for c in choices], np.bool_)
    types = set(_types(reward, watch))
    taken = [
        (customers[who.get(e.customer_id, e.customer_id)], offers[e.offer_id or ""],
         -1 if e.decision_id is None else decisions[e.decision_id], e.occurred_us)
        for e in sorted(events, key=lambda e: (e.occurred_us, e.event_id)) if e.event_type in types
    ]  # fmt: skip
    windows = np.array([watch.window_us(name) for name in offers.names] or [0], np.int64)
    impressions = _touches(shown)
    found = match(impressions, _touches(taken), windows, watch.attribution)
    return found[mine], seen, impressions.occurred_us[mine]


def _spent(
    choices: Sequence[Choice], events: Sequence[LogEvent], watch: Watch, reward: Reward, currency: str
) -> Outcomes:
    """All that was spent within the window by events that name decision and offer."""
    named: dict[tuple[str | None, str | None], list[LogEvent]] = defaultdict(list)
    seen = set()
    types = set(_types(reward, watch))
    for one in events:
        if one.event_type in types:
            named[one.decision_id, one.offer_id].append(one)
        else:
            seen.add((one.decision_id, one.offer_id))
    rewards = np.zeros(len(choices))
    for i, choice in enumerate(choices):
        pair = choice.decision_id, _shown(choice)
        for one in named.get(pair, ()):
            if one.currency not in (None, currency):
                raise BadInput(
                    f"currencies are mixed: event {one.event_id} spent {one.value} {one.currency}, the deployment's "
                    f"currency is {currency}",
                    "reward",
                )
            if one.value is not None and 0 <= one.occurred_us - choice.decided_us <= watch.watched_us(pair[1]):
                rewards[i] += float(one.value)
    return Outcomes(rewards, np.array([(c.decision_id, _shown(c)) in seen for c in choices], np.bool_))


def _check_one_currency(choices: Sequence[Choice], currency: str) -> None:
    other = sorted({one.currency for one in choices} - {currency})
    if other:
        raise BadInput(
            f"currencies are mixed: decisions of this time were made in {', '.join(other)}, the deployment's currency "
            f"is {currency}; choose a --since after the change, or another --reward",
            "reward",
        )


def _touches(rows: Sequence[tuple[int, int, int, int]]) -> Touches:
    columns = np.array(rows, np.int64).reshape(len(rows), 4)
    return Touches(*(np.ascontiguousarray(columns[:, i]) for i in range(4)))


class _Codes:
    """Numbers for names, in the order they came."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        if name not in self._codes:
            self._codes[name] = len(self.names)
            self.names.append(name)
        return self._codes[name]
