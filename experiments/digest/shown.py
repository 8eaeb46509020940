"""What was shown lately, one row per impression with what came of it: what funnel, movers and likings count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from experiments.digest.measures import longest_window_us
from experiments.digest.week import Week
from experiments.happened import DERIVED, match_outcomes, watch_us
from experiments.tables import Tables
from experiments.units import keyed
from features.events import US_PER_DAY, to_us

DECIDED_BEFORE_US = US_PER_DAY  # a decision may be this much older than its impression
ANSWERED = '[{"offers": [{"offer_id": "VARCHAR", "p_accept": "DOUBLE", "is_fallback": "BOOLEAN"}]}]'


@contextmanager
def impressions(tables: Tables, week: Week) -> Iterator[None]:
    """Temporary tables `shown` and `answered`, as of the week's end, from where the week before needs them.

    `shown`: person, offer_id, decision_id, us, ends_us (of its attribution window), accepted_us, clicked_us,
    dismissed_us (NULL: not within the window), p_accept (as it was logged; NULL: not known). `answered`: decision_id,
    person, us, offer_id, p_accept, one row per offer of an answer, or one without an offer.
    """
    until_us, first_us = to_us(week.until), to_us(week.before.since) - longest_window_us(tables)
    match_outcomes(tables, "customer", DERIVED, until_us)
    try:
        _answered(tables, first_us - DECIDED_BEFORE_US, until_us)
        _shown(tables, first_us, until_us)
        yield
    finally:
        for name in ("shown", "answered", *(f"outcome_{one}" for one in DERIVED)):
            tables.db.execute(f"DROP TABLE IF EXISTS {name}")


def _answered(tables: Tables, first_us: int, until_us: int) -> None:
    """Fallback offers have no p_accept: nobody estimated it."""
    tables.db.execute(
        "CREATE OR REPLACE TEMP TABLE answered AS WITH placements AS ("
        "SELECT decision_id, person, us, "
        f"unnest(from_json(json_extract(payload, '$.placements'), '{ANSWERED}')) AS place "
        f"FROM {keyed(tables, 'customer', until_us, 'decisions')} WHERE us >= {first_us} AND us < {until_us}), "
        "offers AS (SELECT decision_id, unnest(place.offers) AS offer FROM placements) "
        "SELECT d.decision_id, d.person, d.us, offer.offer_id AS offer_id, "
        "CASE WHEN offer.is_fallback THEN NULL ELSE offer.p_accept END AS p_accept "
        "FROM (SELECT DISTINCT decision_id, person, us FROM placements) d LEFT JOIN offers o "
        "ON d.decision_id = o.decision_id"
    )


def _shown(tables: Tables, first_us: int, until_us: int) -> None:
    events = keyed(tables, "customer", until_us)
    joins = " ".join(
        f"LEFT JOIN (SELECT key, us, offer_id, decision_id, min(outcome_us) AS at FROM outcome_{name} GROUP BY ALL) "
        f"{name} ON e.key = {name}.key AND e.us = {name}.us AND e.offer_id = {name}.offer_id "
        f"AND e.decision_id IS NOT DISTINCT FROM {name}.decision_id"
        for name in DERIVED
    )
    outcomes = ", ".join(f"CASE WHEN {name}.at <= e.us + {watch_us(tables)} THEN {name}.at END AS {name}_us"
                         for name in DERIVED)  # fmt: skip
    tables.db.execute(
        f"CREATE OR REPLACE TEMP TABLE shown AS SELECT e.key AS person, e.offer_id, e.decision_id, e.us, "
        f"e.us + {watch_us(tables)} AS ends_us, {outcomes}, p.p_accept FROM {events} e "
        f"LEFT JOIN offers o ON e.offer_id = o.offer_id {joins} "
        "LEFT JOIN (SELECT decision_id, offer_id, max(p_accept) AS p_accept FROM answered GROUP BY ALL) p "
        "ON e.decision_id = p.decision_id AND e.offer_id = p.offer_id "
        f"WHERE e.event_type = 'impression' AND e.offer_id IS NOT NULL AND e.us >= {first_us} AND e.us < {until_us}"
    )
