"""Fitted models as arrays and JSON: all that serving sees of training.

A release is a folder: `manifest.json` names every other file with its SHA-256, `offers.json` is the offer map that
all scorers share, and each model has a folder with `scorer.json` and its arrays as `.npy`. Nothing is unpickled.
"""

from __future__ import annotations

from training.release_files import FORMAT, Pointer, digest, json_bytes, read_pointer
from training.scorers.acceptance import AcceptanceModel, AcceptanceScorer, UncalibratedAcceptance
from training.scorers.base import SMALLEST, Affinity, Arrays, FittedRecommender, RecommenderScorer
from training.scorers.blend import BlendScorer, BlendSide
from training.scorers.churn import ChurnScorer
from training.scorers.classifier import RAW, Calibration, Classifier, Raw, RawForOffers, logistic
from training.scorers.factors import FactorScorer, FactorSide
from training.scorers.files import RECOMMENDER_KINDS, SCORERS, Recommender, Scorer, read_scorer, scorer_files
from training.scorers.item_item import ItemItemScorer, ItemItemSide
from training.scorers.popularity import PopularityScorer
from training.scorers.release import Release, load_champion, load_release
from training.scorers.uplift import Effect, UpliftScorer

__all__ = [
    "FORMAT",
    "RAW",
    "RECOMMENDER_KINDS",
    "SCORERS",
    "SMALLEST",
    "AcceptanceModel",
    "AcceptanceScorer",
    "Affinity",
    "Arrays",
    "BlendScorer",
    "BlendSide",
    "Calibration",
    "ChurnScorer",
    "Classifier",
    "Effect",
    "FactorScorer",
    "FactorSide",
    "FittedRecommender",
    "ItemItemScorer",
    "ItemItemSide",
    "Pointer",
    "PopularityScorer",
    "Raw",
    "RawForOffers",
    "Recommender",
    "RecommenderScorer",
    "Release",
    "Scorer",
    "UncalibratedAcceptance",
    "UpliftScorer",
    "digest",
    "json_bytes",
    "load_champion",
    "load_release",
    "logistic",
    "read_pointer",
    "read_scorer",
    "scorer_files",
]
