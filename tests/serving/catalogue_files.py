"""Catalogue files for tests: one with every field, and those that the docs show."""

from __future__ import annotations

import re

from tests.conftest import ROOT

BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
EVERYTHING = """
placements:
  - placement_id: hero
    name: hero on the home page
    channel: web
    max_offers: 1
    fallback_offer_id: tea
    guaranteed_offer_ids: [tea]
    max_per_category: 2
    max_per_brand: 1
offers:
  - offer_id: tea
    name: A box of tea
    category: drinks
    value: 12.5
    currency: EUR
    cost: {amount: 2.0, per: accept}
    status: approved
    starts_at: 2026-03-01T00:00:00+01:00
    ends_at: 2026-12-31T00:00:00Z
    channels: [web]
    placements: [hero]
    eligibility: spent_30d >= 20
    priority: 1
    retention: true
    inventory: 100
    budget: {amount: 500, per: day}
    pacing: true
    caps: [{of: offer, limit: 1, window: 24h, per: customer}]
    attributes: {brand: Assam}
    treatments: [{treatment_id: tea/a, payload: {title: Tea}, channels: [web], placements: [hero]}]
contact_policies:
  - policy_id: calm
    name: web calm
    channels: [web]
    caps: [{of: all, limit: 3, window: 7d}]
    cooldown: {impression: 1h, dismiss: 30d}
    pause_after: {ignored: 5, rejected: 2, for: 14d}
    quiet_hours: ["22:00", "07:00"]
levers:
  - lever_id: push
    name: summer push
    factor: 1.3
    where: offer.category == "drinks"
    starts_at: 2026-06-01T00:00:00Z
    ends_at: 2026-09-01T00:00:00Z
    reason: the cellar is full
experiments:
  - experiment_id: sampling
    hypothesis: sampling pays
    unit: session
    layer: policy
    audience: visits_7d >= 1
    traffic: 0.5
    variants:
      - {name: control, weight: 0.5, is_control: true, policy: greedy}
      - {name: "on", weight: 0.5, policy: thompson, release: null, levers: [push], treatments: {tea: tea/a}}
    primary_metric: acceptance_rate
    secondary_metrics: [nps]
    guardrails: [{metric: dismissal_rate, max_relative: 0.1}, {metric: visit_frequency, min_relative: -0.05}]
    planned_units: 20000
    alpha: 0.1
"""


def blocks() -> list[tuple[str, str]]:
    """(page, text) of every YAML block of the docs."""
    pages = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    return [(page.name, text) for page in pages for text in BLOCK.findall(page.read_text())]
