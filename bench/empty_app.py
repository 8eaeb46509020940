"""The least that a FastAPI endpoint can do with the body of a decision: pydantic in, a constant dict out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.api.decisions import DecisionIn

_OFFERS = [
    {
        "rank": rank,
        "offer_id": f"o-{rank:06}",
        "treatment_id": f"o-{rank:06}/a",
        "score": 1.84,
        "p_accept": 0.073,
        "selection_probability": 0.61,
        "value": 25.2,
        "reason_codes": ["similar_customers"],
        "payload": {"title": f"Offer {rank}", "image_url": f"/images/{rank}.webp", "url": f"/offers/{rank}"},
        "is_fallback": False,
    }
    for rank in (1, 2, 3)
]
_ANSWER: dict[str, Any] = {
    "decision_id": "01JD00000000000000000000",
    "customer_id": "b-1",
    "decided_at": "2026-03-02T12:00:00Z",
    "expires_at": "2026-03-02T12:30:00Z",
    "currency": "EUR",
    "placements": [{"placement_id": "home-hero", "offers": _OFFERS}],
    "policy": "epsilon_greedy",
    "experiments": [],
    "holdout": False,
    "model_versions": {"release": "1", "recommender": "1", "acceptance": "1", "churn": "1"},
    "degraded": [],
}


def create_app() -> FastAPI:
    app = FastAPI()

    @app.post("/v1/decisions")
    async def decide(body: DecisionIn) -> dict[str, Any]:
        return _ANSWER

    return app
