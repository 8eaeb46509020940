"""The release that pins what was trained now, and the challengers of what was not asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from features.events import from_us
from training.registry import CHALLENGER, Pins, alias_of, register_release
from training.releases import pointer_lock, remember, user
from training.scorers import digest, json_bytes
from training.steps.inputs import Inputs
from training.tracking import MODELS, RELEASE, files_of


def pin_release(
    client: Any,
    inputs: Inputs,
    trained: Mapping[str, str | None],
    not_trainable: Mapping[str, str],
    run_id: str | None = None,
) -> tuple[str | None, bool]:
    """Register a release of the versions that were `trained` now, and of the challengers of what was not asked for.

    The release's number, None before there is a recommender; and whether it has an acceptance model.
    """
    versions: dict[str, str | None] = dict(trained)
    for name in MODELS:
        if name not in versions:
            versions[name] = alias_of(client, name, CHALLENGER)
    recommender = versions["recommender"]
    if recommender is None:
        return None, False
    runs = {
        name: client.get_run(client.get_model_version(name, number).run_id)
        for name, number in versions.items()
        if number is not None
    }
    offers = msgspec.json.decode(files_of(client, "recommender", recommender)["offers.json"])
    pins = Pins(
        versions=versions,
        calibrated=versions["acceptance"] is not None,
        feature_set_digest=inputs.features.digest,
        offer_map_sha256=digest(json_bytes([offer["offer_id"] for offer in offers])),
        verdicts={name: run.data.tags["verdict"] for name, run in runs.items()},
        metrics={name: dict(run.data.metrics) for name, run in runs.items()},
        not_trainable=dict(not_trainable),
        data_digest=inputs.log.digest,
        as_of=from_us(inputs.as_of_us).isoformat(),
    )
    before = alias_of(client, RELEASE, CHALLENGER)
    number = register_release(client, pins, inputs.features, run_id)
    with pointer_lock(inputs.home):
        at, why = from_us(inputs.as_of_us), f"trained {', '.join(name for name, made in trained.items() if made)}"
        remember(inputs.home, before, number, user(), why, at, alias=CHALLENGER, kind="training")
    return number, pins.calibrated
