"""The second stage, learned: several recommenders, weighed beside recent popularity and the customer's own past.

The weights are learned from what customers took next in windows before the cut-off, from terms that know nothing of
those windows; then the recommenders are fitted once more, on everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput, NotTrainable
from features.events import US_PER_DAY
from training.blending import add_part_of_many
from training.evaluation import rolling_cutoffs
from training.evaluation.judged import Judged, judged_by
from training.interactions import Interactions
from training.models.als import ALS
from training.models.base import (
    Params,
    RecommenderModel,
    Suggest,
    check_interactions,
    defaults_of,
    not_negative,
    positive,
    settings_of,
)
from training.models.blend_fit import Choices, Learned, balanced, learn_weights
from training.models.blend_terms import OFFER_TERMS, OWN_TERMS, offer_terms, own_terms, past_of
from training.models.ease import EASE
from training.models.item_knn import ITEM_KNN
from training.models.lightfm import LIGHTFM
from training.models.rp3beta import RP3BETA
from training.scorers import FittedRecommender
from training.scorers.blend import BlendScorer, Part

FIRST_STAGES: dict[str, RecommenderModel] = {model.name: model for model in (EASE, RP3BETA, ITEM_KNN, ALS, LIGHTFM)}
UNFADED: Params = {"half_life_days": None, "n_neighbours": 200}  # the blend itself weighs what is recent
PART_PARAMS: Mapping[str, Params] = {"ease": UNFADED, "rp3beta": UNFADED, "item_knn": UNFADED}
LEAST_CUSTOMERS = 30  # who took something next: fewer teach nothing
FIRST = 0.3  # prior weight of the first part, per standard deviation
PRIOR = {"popular_30d": 0.3, "own": 1.0, "own_times": 1.0}  # and of terms; all others 0
ROOT = "_root"
LEAST_NEW = 100  # customers without history, to have weights of their own
BLOCK = 2_000_000  # scores that are held at once


@dataclass(frozen=True, slots=True)
class SecondStageSettings:
    parts: Sequence[str] = ("ease", "rp3beta", "item_knn")  # keys of FIRST_STAGES; the first one names candidates
    part_params: Mapping[str, Params] = field(default_factory=dict)  # beside PART_PARAMS, or in their place
    window_days: float = 30.0  # at most; a quarter of the log's length where that is less
    n_windows: int = 2
    most_customers: int = 2000  # per window, evenly spread
    n_candidates: int = 100  # offers of a customer that compete, by the first part; half as many by recent popularity
    l2: float = 1e-3
    repeats: bool = False

    def __post_init__(self) -> None:
        positive(self, "window_days", "n_windows", "most_customers", "n_candidates")
        not_negative(self, "l2")
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise BadInput(f"parts == {list(self.parts)}, expected at least one, and each once", "parts")
        for name in (*self.parts, *self.part_params):
            if name not in FIRST_STAGES:
                raise BadInput(f"{name!r} is no part; expected some of {', '.join(FIRST_STAGES)}", "parts")


class Lesson(NamedTuple):
    """A past, and who took what next."""

    past: Interactions
    until_us: int
    judged: Judged


def fit_second_stage(past: Interactions, until_us: int, settings: SecondStageSettings, seed: int) -> BlendScorer:
    """With too few who took something next the weights are a prior; `NotTrainable` if no part can be fitted."""
    lessons, by_time = lessons_of(past, until_us, settings, seed)
    names, scorers = _parts(past, until_us, settings, seed)
    with_own = settings.repeats and by_time
    known, new = [], []
    for lesson in lessons:
        then = [_fit_part(name, lesson.past, lesson.until_us, settings, seed) for name in names]
        choices, has_history = choices_of(lesson, then, settings, with_own)
        known.append(choices.part(has_history))
        new.append(choices.part(~has_history))
    terms = terms_of(names, with_own)
    n_known, n_new = (sum(len(of.terms) for of in choices) for choices in (known, new))
    of_known = _learned(known, terms, settings.l2) if n_known >= LEAST_CUSTOMERS else _prior(terms, past, until_us)
    of_new = _learned(new, terms, settings.l2) if n_new >= LEAST_NEW else of_known
    return _scorer(past, until_us, settings, names, scorers, terms, (of_known, of_new), n_known)


def terms_of(names: Sequence[str], with_own: bool) -> tuple[str, ...]:
    """What is weighed, in order: each part's scores and their roots, the offer's terms, the customer's own past."""
    of_parts = [f"{name}{shape}" for name in names for shape in ("", ROOT)]
    return (*of_parts, *OFFER_TERMS, *(OWN_TERMS if with_own else ()))


def _parts(
    past: Interactions, until_us: int, settings: SecondStageSettings, seed: int
) -> tuple[tuple[str, ...], tuple[Part, ...]]:
    """The parts that can be fitted to everything, by name; the others are left out."""
    found: dict[str, Part] = {}
    why = ""
    for name in settings.parts:
        try:
            found[name] = _fit_part(name, past, until_us, settings, seed)
        except NotTrainable as error:
            why = str(error)
    if not found:
        raise NotTrainable("second_stage", why)
    return tuple(found), tuple(found.values())


def _fit_part(name: str, past: Interactions, until_us: int, settings: SecondStageSettings, seed: int) -> Part:
    """What a customer took is for the blend to weigh: parts rank it like all else."""
    params = {**PART_PARAMS.get(name, {}), **settings.part_params.get(name, {}), "repeats": True}
    return FIRST_STAGES[name].fit(past, until_us, params, seed)  # type: ignore[return-value]


def _prior_weights(terms: Sequence[str]) -> NDArray[np.float64]:
    """Per standard deviation, (n_terms,): the first part, and of `PRIOR` what is there."""
    return np.array([FIRST if at == 0 else PRIOR.get(term, 0.0) for at, term in enumerate(terms)])


def _prior(terms: Sequence[str], past: Interactions, until_us: int) -> Learned:
    """What stands in where nothing can be learned; the spread of offers' terms is that of the catalogue."""
    spread = np.ones(len(terms))
    first = terms.index(OFFER_TERMS[0])
    of_offers = offer_terms(past_of(past, until_us)).std(axis=0)
    spread[first : first + len(OFFER_TERMS)] = np.where(of_offers > 0, of_offers, 1.0)
    return Learned(_prior_weights(terms) / spread, spread)


def _learned(choices: Sequence[Choices], terms: Sequence[str], l2: float) -> Learned:
    """Each part, the offer's own terms and the customer's own past are weighed inside, then against each other."""
    first = terms.index(OFFER_TERMS[0])
    ends = sorted({*range(2, first + 1, 2), first + len(OFFER_TERMS), len(terms)})
    groups = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return balanced(choices, learn_weights(choices, _prior_weights(terms), l2), groups)


def lessons_of(
    past: Interactions, until_us: int, settings: SecondStageSettings, seed: int
) -> tuple[list[Lesson], bool]:
    """Windows of time, and True; where time tells too little, hidden halves of some customers' offers, and False.

    None where neither holds enough customers.
    """
    for found, by_time in (
        (_windows(past, until_us, settings), True),
        (_halves(past, until_us, settings, seed), False),
    ):
        lessons = [lesson for lesson in found if len(lesson.judged)]
        if sum(_n_known(lesson) for lesson in lessons) >= LEAST_CUSTOMERS:
            return lessons, by_time
    return [], False


def _windows(past: Interactions, until_us: int, settings: SecondStageSettings) -> Iterator[Lesson]:
    first_us = int(past.occurred_us[0])
    days = int(min(settings.window_days, (until_us - first_us) / US_PER_DAY / 4))
    if days < 1 or int(past.occurred_us[-1]) < until_us - days * US_PER_DAY:
        return
    for window in rolling_cutoffs(past, until_us, days, int(settings.n_windows), share_before=0.25):
        before, after = past.before(window.cut_us), past.between(window.cut_us, window.end_us)
        judged = judged_by(before, after, exclude_seen=not settings.repeats, cut_us=window.cut_us)
        yield Lesson(before, window.cut_us, judged.at_most(int(settings.most_customers)))


def _halves(past: Interactions, until_us: int, settings: SecondStageSettings, seed: int) -> Iterator[Lesson]:
    """A random half of some customers' offers, never of more than a fifth of the customers at once."""
    start, offers = past.taken()
    many = np.flatnonzero(np.diff(start) >= 2)
    random = np.random.default_rng(seed)
    order = random.permutation(many)
    n_each = min(int(settings.most_customers), len(many) // 5)
    n_offers = max(len(past.offers), 1)
    key = past.customer.astype(np.int64) * n_offers + past.offer
    for at in range(int(settings.n_windows)):
        chosen = order[at * n_each : (at + 1) * n_each]
        hidden = [np.zeros(0, np.int64)]
        for row in chosen.tolist():
            mine = offers[start[row] : start[row + 1]]
            hidden.append(row * n_offers + random.permutation(mine)[len(mine) // 2 :].astype(np.int64))
        is_hidden = np.isin(key, np.concatenate(hidden))
        before, after = past.part(~is_hidden), past.part(is_hidden)
        if len(chosen) and len(before):
            yield Lesson(before, until_us, judged_by(before, after, exclude_seen=True))


def _n_known(lesson: Lesson) -> int:
    return int((lesson.judged.n_taken > 0).sum())


def choices_of(
    lesson: Lesson, scorers: Sequence[FittedRecommender], settings: SecondStageSettings, with_own: bool
) -> tuple[Choices, NDArray[np.bool_]]:
    """What each judged customer could have taken next, and whether the customer has a history, (n_customers,)."""
    past, judged = lesson.past, lesson.judged
    counted = past_of(past, lesson.until_us)
    of_offers = offer_terms(counted)
    own = own_terms(counted, of_offers) if with_own else np.zeros((0, 0), np.float32)
    start = counted.start
    sides = [scorer.prepare(past.offers) for scorer in scorers]
    popular = of_offers[:, OFFER_TERMS.index("popular_14d")]
    n_offers = len(past.offers)
    block = max(BLOCK // max(n_offers, 1), 1)
    found: list[Choices] = []
    for first in range(0, len(judged), block):
        some = judged.part(np.arange(first, min(first + block, len(judged))))
        rows = some.rows.tolist()
        who, profiles = [past.customers[row] for row in rows], [past.profiles[row] for row in rows]
        said = [scorer.many(who, profiles, side) for scorer, side in zip(scorers, sides, strict=True)]
        allowed = np.ones((len(rows), n_offers), np.bool_)
        allowed[_cells(some.excluded)] = False
        taken = np.zeros_like(allowed)
        taken[_cells(some.relevant)] = True
        competes = _first(said[0], allowed, int(settings.n_candidates))
        competes |= _first(np.broadcast_to(popular, allowed.shape), allowed, (int(settings.n_candidates) + 1) // 2)
        mine = [np.arange(start[row], start[row + 1]) for row in rows]
        if settings.repeats:
            for at, of in enumerate(mine):
                competes[at, counted.offer[of]] = True
        competes &= allowed
        column = np.argsort(~competes, axis=1, kind="stable")[:, : max(int(competes.sum(axis=1).max()), 1)]
        terms = [np.take_along_axis(of, column, axis=1) for scores in said for of in _shapes(scores)]
        terms += [of_offers[column, at] for at in range(len(OFFER_TERMS))]
        if with_own:
            dense = np.zeros((len(rows), n_offers, len(OWN_TERMS)), np.float32)
            for at, of in enumerate(mine):
                dense[at, counted.offer[of]] = own[of]
            terms += list(np.moveaxis(np.take_along_axis(dense, column[:, :, None], axis=1), 2, 0))
        found.append(
            Choices(
                np.stack(terms, axis=2).astype(np.float32),
                np.take_along_axis(competes, column, axis=1),
                np.take_along_axis(taken & competes, column, axis=1),
                np.diff(some.relevant[0]),
            )
        )
    choices = _joined(found)
    useful: NDArray[np.bool_] = choices.n_taken_there > 0
    return choices.part(useful), judged.n_taken[useful] > 0


def _shapes(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (n_customers, n_offers) in standard deviations over the catalogue, and their signed roots, as served."""
    z, root = np.zeros_like(scores), np.zeros_like(scores)
    one, nothing, all_of = np.ones(1, np.float32), np.zeros(1, np.float32), np.zeros(len(scores), np.int64)
    add_part_of_many(z, scores, all_of, one, nothing)
    add_part_of_many(root, scores, all_of, nothing, one)
    return z, root


def _cells(of: tuple[NDArray[np.int64], NDArray[np.int32]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Row and column of each value of a CSR-style pair."""
    start, columns = of
    return np.repeat(np.arange(len(start) - 1), np.diff(start)), columns[start[0] : start[-1]]


def _first(scores: NDArray[np.float32], allowed: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """The `n` allowed cells of the highest score in each row."""
    if n >= scores.shape[1]:
        return allowed.copy()
    found = np.zeros_like(allowed)
    best = np.argpartition(np.where(allowed, -scores, np.inf), n - 1, axis=1)[:, :n]
    np.put_along_axis(found, best, True, axis=1)
    return found & allowed


def _joined(blocks: Sequence[Choices]) -> Choices:
    """Blocks of customers as one, as wide as the widest."""
    width = max(of.there.shape[1] for of in blocks)

    def widened(array: NDArray[Any]) -> NDArray[Any]:
        if array.ndim == 1:
            return array
        return np.pad(array, [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)])

    return Choices(*(np.concatenate([widened(column) for column in columns]) for columns in zip(*blocks, strict=True)))


def _scorer(
    past: Interactions,
    until_us: int,
    settings: SecondStageSettings,
    names: Sequence[str],
    scorers: tuple[Part, ...],
    terms: Sequence[str],
    learned: tuple[Learned, Learned],
    learned_from: int,
) -> BlendScorer:
    """The weights applied to all that is known at the cut-off."""
    counted = past_of(past, until_us)
    of_offers = offer_terms(counted)
    n_shapes = 2 * len(names)
    of_parts = np.stack([of.weights[:n_shapes] for of in learned]).reshape(2, len(names), 2).astype(np.float32)
    of_terms = np.stack([of.weights[n_shapes : n_shapes + len(OFFER_TERMS)] for of in learned])
    offer_scores = (of_terms @ (of_offers - of_offers.mean(axis=0)).T).astype(np.float32)
    boost = np.zeros(len(counted.customer), np.float32)
    of_own = learned[0].weights[n_shapes + len(OFFER_TERMS) :]
    if len(of_own):
        boost = (own_terms(counted, of_offers) @ of_own).astype(np.float32)
    active = np.unique(counted.customer)
    return BlendScorer(
        version="",
        offer_map=past.offer_map,
        names=tuple(names),
        scorers=scorers,
        linear=np.ascontiguousarray(of_parts[:, :, 0]),
        root=np.ascontiguousarray(of_parts[:, :, 1]),
        offer_scores=offer_scores,
        category_scores=_category_medians(past, offer_scores),
        new_offer_score=_medians(offer_scores),
        repeats=settings.repeats,
        customers={past.customers[row]: at for at, row in enumerate(active.tolist())},
        taken_start=np.concatenate([[0], np.cumsum(np.bincount(counted.customer)[active])]).astype(np.int64),
        taken=counted.offer.astype(np.int32),
        taken_boost=boost,
        learned={
            who: dict(zip(terms, (of.weights * of.spread).tolist(), strict=True))
            for who, of in zip(("known", "unknown"), learned, strict=True)
        },
        learned_from=learned_from if learned_from >= LEAST_CUSTOMERS else 0,
    )


def _category_medians(past: Interactions, scores: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    rows: dict[str, list[int]] = {}
    for row, offer in enumerate(past.offers):
        if offer.category is not None:
            rows.setdefault(offer.category, []).append(row)
    return {category: _medians(scores[:, of]) for category, of in sorted(rows.items())}


def _medians(scores: NDArray[np.float32]) -> tuple[float, float]:
    known, unknown = np.median(scores, axis=1).tolist() if scores.shape[1] else (0.0, 0.0)
    return known, unknown


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> BlendScorer:
    settings = settings_of(SecondStageSettings, params, "second_stage")
    check_interactions(past, until_us, "second_stage")
    return fit_second_stage(past, until_us, settings, seed)


def _space(suggest: Suggest) -> dict[str, Any]:
    return {
        "n_candidates": suggest.suggest_int("n_candidates", 30, 300, log=True),
        "window_days": suggest.suggest_float("window_days", 7.0, 45.0),
        "l2": suggest.suggest_float("l2", 1e-4, 1e-1, log=True),
    }


SECOND_STAGE = RecommenderModel("second_stage", _fit, _space, defaults_of(SecondStageSettings()))
