"""A release: the scorers that serve together, read from a folder whose every file has its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from features.catalogue import Offer
from features.definitions import FeatureSet
from features.errors import BrokenRelease
from training.release_files import checked, digest, read_manifest, read_pointer
from training.scorers.acceptance import AcceptanceModel, AcceptanceScorer, UncalibratedAcceptance
from training.scorers.base import RecommenderScorer
from training.scorers.churn import ChurnScorer
from training.scorers.files import RECOMMENDER_KINDS, Scorer, read_scorer
from training.scorers.popularity import PopularityScorer
from training.scorers.uplift import UpliftScorer


@dataclass(frozen=True, slots=True)
class Release:
    """The models that serve together. `number` and `versions` are those of the model registry."""

    number: str
    versions: Mapping[str, str | None]  # release, recommender, acceptance, churn
    calibrated: bool  # whether p_accept comes from a fitted acceptance model
    offer_map: tuple[str, ...]  # the offers that the recommender was trained with, in row order
    feature_set: FeatureSet
    recommender: RecommenderScorer
    acceptance: AcceptanceModel
    churn: ChurnScorer | None
    popularity: Mapping[str, float]  # offer id -> affinity, where the recommender cannot answer
    manifest: Mapping[str, Any]
    uplift: UpliftScorer | None = None  # of retention offers; None where no holdout told


def load_champion(releases: Path) -> Release | None:
    pointer = read_pointer(releases)
    return None if pointer is None else load_release(releases / pointer.release, pointer.sha256)


def load_release(folder: Path, sha256: str | None = None) -> Release:
    """The release in `folder`, every file checked against the manifest; compiled code is warm afterwards.

    `BrokenRelease` if a file is missing or differs from its digest, or arrays disagree with the offer map.
    """
    try:
        return _load(folder, sha256)
    except BrokenRelease:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, msgspec.MsgspecError) as error:
        raise BrokenRelease(f"{folder.name}: {type(error).__name__}: {error}") from error


def _load(folder: Path, sha256: str | None) -> Release:
    manifest = read_manifest(folder, sha256)
    files = {name: checked(folder, name, expected) for name, expected in manifest["files"].items()}
    offer_map = tuple(json.loads(files["offers.json"]))
    if digest(files["offers.json"]) != manifest["offer_map_sha256"]:
        raise BrokenRelease(f"{folder.name}: the offer map is not the one the manifest names")
    feature_set = FeatureSet.from_json(files["features.json"])
    scorers = {name: read_scorer(files, name, offer_map) for name in manifest["models"]}
    popularity = scorers["popularity"]
    release = Release(
        number=manifest["release"],
        versions=manifest["versions"],
        calibrated=manifest["calibrated"],
        offer_map=offer_map,
        feature_set=feature_set,
        recommender=_of(scorers["recommender"], *RECOMMENDER_KINDS),
        acceptance=_of(scorers["acceptance"], AcceptanceScorer, UncalibratedAcceptance),
        churn=_of(scorers["churn"], ChurnScorer) if "churn" in scorers else None,
        popularity=dict(zip(offer_map, _of(popularity, PopularityScorer).scores.tolist(), strict=True)),
        manifest=manifest,
        uplift=_of(scorers["uplift"], UpliftScorer) if "uplift" in scorers else None,
    )
    _warm_up(release)
    return release


def _of(scorer: Scorer, *kinds: type[Any]) -> Any:
    if not isinstance(scorer, kinds):
        raise BrokenRelease(f"a {type(scorer).__name__} where {' or '.join(k.__name__ for k in kinds)} belongs")
    return scorer


def _warm_up(release: Release) -> None:
    """One call of each scorer, so that the first request does not wait for the compiler."""
    nothing = Offer(offer_id="none", name="none", value=0.0, currency="", treatments=())
    affinity = release.recommender.affinity("", {}, release.recommender.prepare((nothing,)))
    release.acceptance.p_accept({}, {}, affinity, release.acceptance.prepare((nothing,), {}, 0))
    if release.churn is not None:
        release.churn.p_churn({})
    if release.uplift is not None:
        release.uplift.uplift({})
