"""P(accept | customer, offer, context): base rates, a logistic regression and boosted trees on impressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import Offer
from features.data_settings import Acceptance
from features.definitions import FeatureSet
from features.events import US_PER_DAY
from training.calibration import Ahead
from training.columns import YOUNG_DAYS, acceptance_encoder, growing
from training.directions import directions_of, named
from training.encoder import Encoder
from training.evaluation.judged_rows import JudgedRows, judged_rows
from training.linear import Linear
from training.models.acceptance_notes import constraints_noted, selection_noted
from training.models.classifier_fit import (
    ClassifierFit,
    Sample,
    Tried,
    check_parts,
    check_rows,
    codes,
    judge_and_choose,
    raw_log_loss,
)
from training.models.classifiers import (
    Part,
    TreeSettings,
    fit_base_rates,
    fit_constant,
    fit_forest,
    fit_logistic,
    fit_trees,
)
from training.models.selection import Selection, selection_of
from training.neutral import held_at, without
from training.split import Split, blocks
from training.trees import Forest
from training.uncertainty import HeldOut, fit_spread, permitted_error

PENALTIES = (0.03, 0.3)  # inverse; smaller is stronger
TREES = (
    TreeSettings(),
    TreeSettings(learning_rate=0.04, max_leaf_nodes=31, min_samples_leaf=150, l2=20.0, max_features=0.3, max_trees=400),
)
N_AHEAD = 4  # blocks of time before the test part; all but the first two are predicted from what came before
SCATTER_BINS = 64  # of trees that are fitted again to see how far they scatter
AHEAD_TREES = 100  # at most, of the models that do so
OFFER, POSITION = "offer.offer_id", "context.position"
TOP = 1.0  # the position that served probabilities are for
Parts = Mapping[str, Sample]


@dataclass(frozen=True)
class AcceptanceTable:
    """Impressions as point-in-time rows, in time order; every column has one value per row."""

    customers: Sequence[str]
    offers: Sequence[Offer]
    us: NDArray[np.int64]
    customer_features: pd.DataFrame
    offer_features: pd.DataFrame
    context: Mapping[str, Any]  # channel, placement_id, hour, weekday, us; position where decisions are logged
    affinity: NDArray[np.float64] | None  # relative, from a recommender that saw only what came before the row's block
    is_new: NDArray[np.bool_]  # the customer's first event
    y: NDArray[np.bool_]
    chance: NDArray[np.float64] | None = None  # the policy's, of having shown this offer; NaN or None: not logged
    at_random: NDArray[np.bool_] | None = None  # no estimate chose it
    first_us: int | None = None  # when the log began; None: long before


@dataclass(frozen=True)
class _World:
    """What every candidate is fitted on; `parts` are train, validation and test."""

    encoder: Encoder
    parts: Parts
    directions: NDArray[np.int64]  # (n_columns,)
    seed: int
    grown: tuple[str, ...] = ()  # features that are left out, as they grow with the log's age
    young: bool = False  # whether the log is too young for what goes by the date

    def weighted(self, selection: Selection | None) -> _World:
        """The same rows, counted by their weights; None: all the same."""
        parts = {
            name: replace(sample, part=replace(sample.part, w=None if selection is None else selection.weights[name]))
            for name, sample in self.parts.items()
        }
        return replace(self, parts={**parts, "test": self.parts["test"]})


def learn_acceptance(
    features: FeatureSet,
    catalogue: Sequence[Offer],
    table: AcceptanceTable,
    split: Split,
    seed: int,
    settings: Acceptance | None = None,
) -> ClassifierFit:
    """Fit on the training part, choose and calibrate on validation, judge on test.

    Where chances are logged, impressions count by the inverse of theirs, if that does better on what was drawn at
    random. Position is learned from, and held at the top in what serves. `BadInput` where a number is infinite.
    """
    rules = Acceptance() if settings is None else settings
    world = _world(features, catalogue, table, split, seed, rules)
    selection = selection_of(table, split)
    weighs = selection is not None and _weighs(world, selection, rules.weights)
    world = world.weighted(selection if weighs else None)
    rows = np.flatnonzero(split.test)
    baselines, candidates, test = _baselines(world), _candidates(world), world.parts["test"]
    fit = judge_and_choose(
        world.encoder,
        baselines,
        candidates,
        world.parts,
        lambda: _slices(table, rows),
        seed,
        refit=partial(_on_all_customers, world),
        ahead=partial(_ahead, world),
    )
    otherwise = world.weighted(None if weighs else selection)
    other = None if selection is None else _probabilities(otherwise, fit)
    fit = selection_noted(fit, test, selection, weighs, other, seed)
    fit = replace(
        fit,
        notes=(*fit.notes, *_grown_noted(world.grown), *_young_noted(world.young)),
        judged=_judged(table, rows, fit),
    )
    held = named(world.encoder, world.directions)
    anyhow = replace(world, directions=np.zeros_like(world.directions))
    free = _probabilities(anyhow, fit) if held else None
    return _served(constraints_noted(fit, test, held, free, seed), world)


def _judged(table: AcceptanceTable, rows: NDArray[np.int64], fit: ClassifierFit) -> JudgedRows:
    customers, offers = ([of[row] for row in rows.tolist()] for of in (table.customers, table.offers))
    return judged_rows(customers, table.us[rows], [offer.offer_id for offer in offers], fit.y, fit.p)


def _world(
    features: FeatureSet,
    catalogue: Sequence[Offer],
    table: AcceptanceTable,
    split: Split,
    seed: int,
    rules: Acceptance,
) -> _World:
    masks = {"training": split.train, "validation": split.validation, "test": split.test}
    check_parts("acceptance", {name: table.y[mask] for name, mask in masks.items()})
    at = np.flatnonzero(split.train)
    grown, young = _growing(features, table, at), _young(table)
    encoder = acceptance_encoder(
        features,
        table.customer_features.iloc[at],
        catalogue,
        [table.offers[i] for i in at.tolist()],
        table.offer_features.iloc[at],
        {name: np.asarray(values, dtype=object)[at] for name, values in table.context.items()},
        affinity=table.affinity is not None and bool(np.isfinite(table.affinity[at]).any()),
        without=grown,
        since_us=table.first_us,
        young=young,
    )
    rows = encoder.rows(
        len(table.y), table.customer_features, table.offers, table.offer_features, table.context, table.affinity
    )
    check_rows(encoder, rows)
    customers = codes(table.customers)
    parts = {
        name: Sample(Part(rows[mask], table.y[mask]), codes(customers[mask].tolist()), table.us[mask])
        for name, mask in (("train", split.train), ("validation", split.validation), ("test", split.test))
    }
    return _World(encoder, parts, directions_of(encoder, rules.expected), seed, grown, young)


def _growing(features: FeatureSet, table: AcceptanceTable, rows: NDArray[np.int64]) -> tuple[str, ...]:
    if table.first_us is None:
        return ()
    age = np.maximum(table.us - table.first_us, 0) / US_PER_DAY
    return growing(features, age[rows], float(age.max()))


def _grown_noted(grown: Sequence[str]) -> list[str]:
    if not grown:
        return []
    return [
        f"{len(grown)} counts reach further back than the log and would grow with its age alone, such as {grown[0]}; "
        "they are left out, and totals are read per day of the log instead."
    ]


def _young(table: AcceptanceTable) -> bool:
    return table.first_us is not None and float(table.us.max() - table.first_us) < YOUNG_DAYS * US_PER_DAY


def _young_noted(young: bool) -> list[str]:
    if not young:
        return []
    return [
        f"The log is younger than {YOUNG_DAYS:.0f} days: statistics of offers and the weekday would tell the date of "
        "an impression, and are left out."
    ]


def _baselines(world: _World) -> list[Tried]:
    train = world.parts["train"].part
    if any(column.name == OFFER for column in world.encoder.columns):
        return [Tried("offer_base_rate", "linear", fit_base_rates(world.encoder, train, OFFER), {})]
    return [Tried("base_rate", "linear", fit_constant(train), {})]


def _candidates(world: _World) -> list[Tried]:
    if not world.encoder.columns:
        return []
    return [*(_logistic(world, c) for c in PENALTIES), *(_trees(world, settings) for settings in TREES)]


def _logistic(world: _World, c: float) -> Tried:
    model = fit_logistic(world.encoder, world.parts["train"].part, c, directions=world.directions.tolist())
    return Tried("logistic", "linear", model, {"c": c})


def _trees(world: _World, settings: TreeSettings) -> Tried:
    train, validation = world.parts["train"].part, world.parts["validation"].part
    fit = fit_trees(world.encoder, train, validation, settings, world.seed, world.directions.tolist())
    return Tried("boosted_trees", "trees", fit.forest, {**asdict(settings), "n_trees": fit.n_trees}, fit.curve)


def _on_all_customers(world: _World, tried: Tried) -> Tried:
    """As many trees, or the same penalty, on the training and the validation part together."""
    both = _together(world.parts["train"].part, world.parts["validation"].part)
    return replace(tried, model=_refit_on(world.encoder, tried, world.directions.tolist(), both, world.seed))


def _together(one: Part, other: Part) -> Part:
    w = None if one.w is None and other.w is None else np.concatenate([one.weights, other.weights])
    return Part(np.concatenate([one.rows, other.rows]), np.concatenate([one.y, other.y]), w)


def _ahead(world: _World, tried: Tried) -> list[Ahead]:
    """Each block of the training part's time but the first two, predicted by the same kind of model fitted before it:
    what one block tells is mostly that the log was young."""
    train = world.parts["train"]
    starts = blocks(train.us, int(train.us.max()) + 1, N_AHEAD)
    few = (
        tried
        if "n_trees" not in tried.params
        else replace(tried, params={**tried.params, "n_trees": min(tried.params["n_trees"], AHEAD_TREES)})
    )
    found = []
    for start, end in zip(starts[2:], [*starts[3:], int(train.us.max()) + 1], strict=False):
        before, inside = train.us < start, (train.us >= start) & (train.us < end)
        if len(np.unique(train.part.y[before])) < 2:
            return []
        model = _refit_on(world.encoder, few, world.directions.tolist(), train.part.of(before), world.seed)
        block = train.part.of(inside)
        found.append(Ahead(model.raw(block.rows), block.y, block.w, train.customers[inside]))
    return found


def _weighs(world: _World, selection: Selection, rule: str) -> bool:
    """Whether impressions count by weight: as the setting says; where that is left open, if it does better on the
    validation part's random draws, or by weight on all of it where these are too few."""
    if rule != "auto" or not selection.usable or not world.encoder.columns:
        return rule == "always"
    judged = selection.judged(world.parts["validation"].part)
    by_weight, by_count = (
        raw_log_loss(_trees(world.weighted(one), TREES[0]).model, judged) for one in (selection, None)
    )
    return by_weight < by_count


def _probabilities(world: _World, fit: ClassifierFit) -> NDArray[np.float64]:
    """Of the test part, by the chosen settings as this world counts rows and holds directions, calibrated as it is."""
    return fit.classifier.calibration(_on_all_customers(world, fit.chosen).model.raw(world.parts["test"].part.rows))


def _served(fit: ClassifierFit, world: _World) -> ClassifierFit:
    """What serves: position held at the top, and how unsure the log-odds are."""
    encoder, train = world.encoder, world.parts["train"]
    model = cast("Linear | Forest", fit.classifier.model)
    at = next((i for i, column in enumerate(encoder.columns) if column.name == POSITION), None)
    if at is not None:
        model, encoder = held_at(model, encoder, at, TOP)
        train = replace(train, part=replace(train.part, rows=without(train.part.rows, at)))
    directions = [one for n, one in enumerate(world.directions.tolist()) if n != at]
    refit = partial(_refit_on, encoder, _coarser(fit.chosen), directions)
    beside = permitted_error(_held_out(fit, world))
    spread = fit_spread(encoder, train.part, train.customers, refit, world.seed, beside)
    return replace(
        fit,
        classifier=replace(fit.classifier, model=model, encoder=encoder),
        spread=spread,
        figures={**fit.figures, "permitted_error": beside},
    )


def _held_out(fit: ClassifierFit, world: _World) -> list[HeldOut]:
    """Other customers of the same time, and later blocks of time: what the chosen settings had not seen."""
    calibration, aside = fit.classifier.calibration, world.parts["validation"]
    found = [HeldOut(calibration(fit.chosen.model.raw(aside.part.rows)), aside.part.y, aside.customers)]
    return found + [
        HeldOut(calibration(one.raw), one.y, np.arange(len(one.y)) if one.customers is None else one.customers)
        for one in fit.ahead
    ]


def _refit_on(encoder: Encoder, tried: Tried, directions: Sequence[int], part: Part, seed: int) -> Linear | Forest:
    """The same kind of model with the same settings, and as many trees, on these rows."""
    if tried.name == "logistic":
        return fit_logistic(encoder, part, tried.params["c"], directions=directions)
    if tried.name == "boosted_trees":
        return fit_forest(encoder, part, _settings(tried), tried.params["n_trees"], seed, directions)
    return fit_base_rates(encoder, part, OFFER) if tried.name == "offer_base_rate" else fit_constant(part)


def _coarser(tried: Tried) -> Tried:
    """Of trees, with splits between fewer values: how far models scatter is the same, in two thirds of the time."""
    if tried.name != "boosted_trees":
        return tried
    return replace(tried, params={**tried.params, "max_bins": SCATTER_BINS})


def _settings(tried: Tried) -> TreeSettings:
    return TreeSettings(**{key: value for key, value in tried.params.items() if key != "n_trees"})


def _slices(table: AcceptanceTable, rows: NDArray[np.int64]) -> dict[str, list[object]]:
    by: dict[str, list[object]] = {
        "offer": [table.offers[i].offer_id for i in rows.tolist()],
        "category": [table.offers[i].category for i in rows.tolist()],
        "customer": ["new" if table.is_new[i] else "known" for i in rows.tolist()],
        "channel": [table.context["channel"][i] for i in rows.tolist()],
    }
    position = table.context.get("position")
    if position is not None and np.isfinite(np.asarray(position, np.float64)).any():
        by["position"] = [f"{position[i]:.0f}" if np.isfinite(position[i]) else None for i in rows.tolist()]
    return by
