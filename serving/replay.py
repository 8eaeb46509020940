"""A decision made again from its row of the log: same inputs, same release, same chance, and what differs if anything.

What the row does not hold is found by what it names: the release, the catalogue's version, what editions were made
from (`inputs.py`), and what had been learned up to a position of the log.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, NamedTuple

import msgspec

from experiments.assignment import Assigned, Entry
from features.definitions import FeatureSet
from features.errors import BrokenRelease, InputsExpired, NotFound
from features.events import US_PER_DAY, from_us, parse_time, to_us
from features.facts import Catalogue
from features.live import offer_features_of
from features.log import DecisionRow
from serving.answer import answer_of
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerNow, Happened, Told
from serving.decide import Attempt
from serving.decision import Decision, DecisionRequest, PlacementRequest
from serving.drafting import Draft, Known, Question, draft, rng_of
from serving.edition import Edition
from serving.experimenting import Arm, as_assigned
from serving.inputs import KEPT_DAYS, KeptInputs
from serving.learning.beliefs import Beliefs
from serving.policies import DECIDING
from serving.settings import Clock, Settings
from serving.state.contacts import ContactHistory, Level, Stock
from training.scorers import Release, load_release

MOST_DIFFERENCES = 100
EDITIONS_KEPT = 2  # decisions that are replayed together were mostly made together
NEEDED = ("n_draws", "levers_off")  # of a row; those before did not have them all
Row = Mapping[str, Any]
BeliefsAt = Callable[[float, int, CatalogueView, str, str], Beliefs]  # prior strength, position, …, release, segment


class Difference(NamedTuple):
    """One value of the row that came out otherwise; `at` is a JSON pointer."""

    at: str
    was: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """A decision made again."""

    decision: Decision
    diff: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return not self.diff


@dataclass(frozen=True, slots=True)
class Past:
    """Where the inputs of old decisions are found."""

    settings: Settings  # of now; what decides is taken from when the decision was made
    clock: Clock
    decision: Callable[[str], DecisionRow | None]
    catalogue_at: Callable[[int], Catalogue]
    inputs: KeptInputs
    beliefs_at: BeliefsAt


@dataclass(frozen=True, slots=True)
class Recalled:
    """A logged decision with everything it was made from: for who would decide it otherwise."""

    row: Row
    arm: Arm
    question: Question
    without: frozenset[str]  # offers that had been lost to somebody else
    drawn: Draft  # as it was

    @property
    def edition(self) -> Edition:
        return self.arm.edition

    @property
    def settings(self) -> Settings:
        return self.arm.settings


class Replayer:
    """Makes decisions again, one at a time. Reads only."""

    def __init__(self, past: Past) -> None:
        self.past = past
        self._one_at_a_time = threading.Lock()
        self._editions: OrderedDict[tuple[Any, ...], PastEdition] = OrderedDict()

    def replay(self, decision_id: str, *, explain: bool = False) -> Replayed:
        """`NotFound` for a decision that is not in the log, `InputsExpired` if what it was made from is gone."""
        logged = self.past.decision(decision_id)
        if logged is None:
            raise NotFound("decision", decision_id)
        row = self._kept_row(logged)
        with self._one_at_a_time:
            decision = _made_again(self._recalled(row, explain=explain))
        return Replayed(decision, tuple(differences(row, msgspec.json.decode(decision.log_payload))))

    def recall(self, logged: DecisionRow, watched: Callable[[Random], Random] | None = None) -> Recalled:
        """A decision with what it was made from; `InputsExpired` if that is gone. `watched` may stand in for its
        randomness, and must say what that says.
        """
        row = self._kept_row(logged)
        with self._one_at_a_time:
            return self._recalled(row, watched)

    def edition_beside(self, recalled: Recalled, release: str | None, positions: Sequence[int]) -> Edition:
        """What a recalled decision would have been made with, had another release served: the catalogue, the features
        and what had been learned of that moment. `positions` are up to where was learned, one per draft to come.
        """
        row = {**recalled.row, "model_versions": {**recalled.row["model_versions"], "release": release}}
        with self._one_at_a_time:
            past = self._edition(row)
            past.positions = iter(positions)
            return past.edition

    def _kept_row(self, logged: DecisionRow) -> Row:
        if to_us(self.past.clock()) - logged.decided_us > KEPT_DAYS * US_PER_DAY:
            raise InputsExpired(f"this decision was made more than {KEPT_DAYS} days ago")
        return _row_of(logged)

    def _recalled(
        self, row: Row, watched: Callable[[Random], Random] | None = None, *, explain: bool = False
    ) -> Recalled:
        past = self._edition(row)
        past.positions = iter([one["learned_position"] for one in row["support"]])
        arm = as_assigned(past.edition, replace(past.settings, policy=row["policy"]), _assigned_of(row))
        question = _question_of(row, past.edition.customers.feature_set, explain)
        # Without counters the last draw withheld whatever is limited, and with it all that had been lost.
        counted = question.known.history is not None
        without = frozenset[str]().union(*row["lost"]) if counted else frozenset[str]()
        rng = rng_of(question.seed, row["n_draws"])
        rng = rng if watched is None else watched(rng)
        drawn = draft(arm.edition, arm.settings, question, rng, without)
        return Recalled(row, arm, question, without, drawn)

    def _edition(self, row: Row) -> PastEdition:
        key = (
            row["model_versions"]["release"], row["catalogue_version"], row["offers_as_of_us"],
            *sorted(row["inputs"].items()),
        )  # fmt: skip
        if key not in self._editions:
            self._editions[key] = self._prepared(row)
            if len(self._editions) > EDITIONS_KEPT:
                self._editions.popitem(last=False)
        self._editions.move_to_end(key)
        return self._editions[key]

    def _prepared(self, row: Row) -> PastEdition:
        past, inputs, as_of_us = self.past, row["inputs"], row["offers_as_of_us"]
        settings = _settings_of(past.settings, past.inputs.settings(inputs["settings"]))
        features = past.inputs.feature_set(inputs["feature_set"])
        stored = past.inputs.offers(inputs["offers"])
        offers = {offer_id: offer_features_of(features, one, as_of_us) for offer_id, one in stored.items()}
        view = CatalogueView(past.catalogue_at(row["catalogue_version"]), features)
        release = self._release(row["model_versions"]["release"])
        return PastEdition(settings, view, features, release, offers, as_of_us, past.beliefs_at, inputs)

    def _release(self, number: str | None) -> Release | None:
        if number is None:
            return None
        try:
            return load_release(self.past.settings.home.releases / number)
        except BrokenRelease as error:
            raise InputsExpired(f"release {number} cannot be loaded any more: {error}") from None


class PastEdition:
    """An edition as it was, with what had been learned when each placement was decided."""

    def __init__(
        self,
        settings: Settings,
        view: CatalogueView,
        features: FeatureSet,
        release: Release | None,
        offers: Mapping[str, Mapping[str, Any]],
        as_of_us: int,
        beliefs_at: BeliefsAt,
        inputs: Mapping[str, str],
    ) -> None:
        self.settings = settings
        self.positions: Iterator[int] = iter(())
        self._beliefs_at = beliefs_at
        self.edition = Edition(view, _Nobody(features), release, offers, as_of_us, self._believed, inputs)

    def _believed(self, view: CatalogueView, release: str, segment: str) -> Beliefs:
        return self._beliefs_at(self.settings.prior_strength, next(self.positions), view, release, segment)


@dataclass(slots=True)
class _Nobody:
    """Customers are read from the row."""

    feature_set: FeatureSet
    has_store: bool = False

    def read(self, customer_id: str, now_us: int) -> CustomerNow:
        raise NotImplementedError

    def happened(self, asked: Sequence[tuple[str, int]]) -> list[Happened]:
        raise NotImplementedError

    def told(self, customer_ids: Sequence[str]) -> list[Told]:
        raise NotImplementedError

    def assembled(self, customer_id: str, happened: Happened | None, told: Told | None, now_us: int) -> CustomerNow:
        raise NotImplementedError


def _row_of(logged: DecisionRow) -> Row:
    try:
        row: Row = msgspec.json.decode(logged.payload)
        if row.get("n_draws") == 0:
            raise InputsExpired("nothing was drawn: no decision could be made in time, or at all")
        for place in NEEDED:
            _ = row[place]
        for named in ("settings", "feature_set", "offers"):
            _ = row["inputs"][named]
        for placement in row["placements"]:
            _ = placement["segment"]
    except (msgspec.DecodeError, KeyError, TypeError):
        raise InputsExpired("the log does not name everything that this decision was made from") from None
    if row.get("policy") not in DECIDING:
        raise InputsExpired(f"the policy {row.get('policy')!r} of this decision does not exist any more")
    return row


def _settings_of(now: Settings, then: Mapping[str, Any]) -> Settings:
    """Today's settings with what decided then; a setting that is gone decided nothing that is still asked."""
    known = {one.name for one in fields(Settings)}
    return replace(now, **{name: value for name, value in then.items() if name in known})


def _made_again(recalled: Recalled) -> Decision:
    row = recalled.row
    lost = tuple(frozenset(one) for one in row["lost"])
    attempt = Attempt(
        recalled.arm, recalled.question, recalled.drawn, lost, n_draws=row["n_draws"], latency_us=row.get("latency_us")
    )
    return answer_of(attempt, row["currency"])


def _assigned_of(row: Row) -> Assigned:
    entry = row["holdout_entry"]
    return Assigned(
        holdout=row["holdout"],
        entries=tuple(Entry(**one) for one in row["experiments"]),
        levers_off=frozenset(row["levers_off"]),
        treatments=row["treatments"],
        holdout_entry=None if entry is None else Entry(**entry),
    )


def _question_of(row: Row, features: FeatureSet, explain: bool) -> Question:
    asked = row["request"]
    request = DecisionRequest(
        customer_id=row["customer_id"],
        placements=tuple(PlacementRequest(one["placement_id"], one["limit"]) for one in asked["placements"]),
        channel=asked["channel"],
        context=asked["context"],
        exclude_offer_ids=frozenset(asked["exclude_offer_ids"]),
        deadline_ms=asked["deadline_ms"],
        explain=explain,
    )
    decided_at = parse_time(row["decided_at"], "decided_at")
    return Question(
        request=request,
        known=Known(
            _customer_of(row, features),
            None if row["history"] is None else msgspec.convert(row["history"], ContactHistory),
            _stock_of(row["stock"]),
        ),
        now=from_us(to_us(decided_at)),
        seed=int(row["seed"]),
        decision_id=row["decision_id"],
        lapses_us=to_us(parse_time(row["expires_at"], "expires_at")),
    )


def _stock_of(logged: Mapping[str, Any] | None) -> Stock | None:
    if logged is None:
        return None
    levels = {offer_id: Level(*level) for offer_id, level in logged["levels"].items()}
    return Stock(**{**logged, "levels": levels})


def _customer_of(row: Row, features: FeatureSet) -> CustomerNow:
    told = row["customer"]
    return CustomerNow(
        customer_id=told["customer_id"],
        features=_features_of(row["features"], features),
        known=row["known"],
        snapshot_us=row["snapshot_us"],
        refused=None if told["refused"] is None else frozenset(told["refused"]),
        consent=told["consent"],
        attributes=told["attributes"],
        muted_categories=frozenset(told["muted_categories"]),
        less_like=frozenset(told["less_like"]),
        time_zone=told["time_zone"],
        unit_id=row["unit_id"],
        degraded=tuple((one["code"], one["action"]) for one in row["degraded"]),
    )


def _features_of(logged: Mapping[str, Any], features: FeatureSet) -> dict[str, Any]:
    """JSON has no NaN: a number that is null was one."""
    numbers = {feature.name for feature in features.customer if feature.kind == "number"}
    return {name: math.nan if value is None and name in numbers else value for name, value in logged.items()}


def differences(was: Any, now: Any, at: str = "") -> Iterator[Difference]:
    """Where two values of JSON differ, at most `MOST_DIFFERENCES`, in the order of the first."""
    for n, one in enumerate(_differences(was, now, at)):
        if n == MOST_DIFFERENCES:
            return
        yield one


def _differences(was: Any, now: Any, at: str) -> Iterator[Difference]:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in {**was, **now}:
            yield from _differences(was.get(name), now.get(name), f"{at}/{_escaped(name)}")
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for i, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from _differences(one, other, f"{at}/{i}")
    elif type(was) is not type(now) or was != now:
        yield Difference(at, was, now)


def _escaped(part: str) -> str:
    """One part of a JSON pointer. Source: RFC 6901, section 3."""
    return part.replace("~", "~0").replace("/", "~1")
