"""Small releases written by hand, as a promotion would leave them."""

from __future__ import annotations

import os

import numpy as np

from features.definitions import feature_set
from training.scorers import FORMAT, PopularityScorer, UncalibratedAcceptance, digest, json_bytes, scorer_files


def write_release(releases, number, offers, *, prior=0.05, champion=True, more=None):
    """A release in which offers are known by popularity (id -> log count) and acceptance is a prior times affinity.

    `more` are further scorers by their folder's name.
    """
    names = tuple(sorted(offers))
    scores = np.array([offers[name] for name in names], np.float32)
    popularity = PopularityScorer("1", names, scores, {}, 0.0)
    models = {
        "popularity": popularity,
        "recommender": popularity,
        "acceptance": UncalibratedAcceptance("", prior, 0.0, 1.0),
        **(more or {}),
    }
    files = {"offers.json": json_bytes(list(names)), "features.json": feature_set().to_json()}
    for model, scorer in models.items():
        files |= {f"{model}/{name}": body for name, body in scorer_files(scorer).items()}
    manifest = json_bytes(
        {
            "format": FORMAT,
            "release": number,
            "versions": {"release": number, "recommender": "1", "acceptance": None, "churn": None},
            "calibrated": False,
            "models": sorted(models),
            "offer_map_sha256": digest(files["offers.json"]),
            "files": {name: digest(body) for name, body in files.items()},
        }
    )
    folder = releases / number
    for name, body in {**files, "manifest.json": manifest}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    if champion:
        point_to(releases, number, digest(manifest))
    return folder


def point_to(releases, number, sha256):
    staged = releases / "champion.json.tmp"
    staged.write_bytes(json_bytes({"release": number, "sha256": sha256}))
    os.replace(staged, releases / "champion.json")
