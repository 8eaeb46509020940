"""Scorers as files, and back: which kinds there are."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import BrokenRelease
from training.read_back import DAMAGE
from training.release_files import json_bytes
from training.scorers.acceptance import AcceptanceScorer, UncalibratedAcceptance
from training.scorers.blend import BlendScorer
from training.scorers.churn import ChurnScorer
from training.scorers.factors import FactorScorer
from training.scorers.item_item import ItemItemScorer
from training.scorers.popularity import PopularityScorer
from training.scorers.uplift import UpliftScorer

Recommender = FactorScorer | ItemItemScorer | PopularityScorer | BlendScorer
Scorer = Recommender | AcceptanceScorer | UncalibratedAcceptance | ChurnScorer | UpliftScorer
RECOMMENDER_KINDS: tuple[type[Recommender], ...] = (FactorScorer, ItemItemScorer, PopularityScorer, BlendScorer)
SCORERS: dict[str, type[Scorer]] = {
    kind.KIND: kind
    for kind in (*RECOMMENDER_KINDS, AcceptanceScorer, UncalibratedAcceptance, ChurnScorer, UpliftScorer)
}


def scorer_files(scorer: Scorer) -> dict[str, bytes]:
    """A scorer as files: `scorer.json` and one `.npy` per array; the same scorer gives the same bytes."""
    meta, arrays = scorer.parts()
    head = {"kind": scorer.KIND, "version": scorer.version, "arrays": sorted(arrays), **meta}
    files = {"scorer.json": json_bytes(head)}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        files[f"{name}.npy"] = buffer.getvalue()
    return files


def read_scorer(files: Mapping[str, bytes], folder: str, offer_map: tuple[str, ...]) -> Scorer:
    """The scorer under `folder` of already checked files. `BrokenRelease` names an array that cannot be read."""
    prefix = f"{folder}/" if folder else ""
    meta = json.loads(files[f"{prefix}scorer.json"])
    arrays = {name: _array(files, f"{prefix}{name}.npy") for name in meta["arrays"]}
    return SCORERS[meta["kind"]].made_of(meta, arrays, offer_map)


def _array(files: Mapping[str, bytes], name: str) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(io.BytesIO(files[name]), allow_pickle=False)
    except DAMAGE as error:
        raise BrokenRelease(f"{name}: {type(error).__name__}: {error}") from error
    return found
