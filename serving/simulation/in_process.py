"""A service without a door: the decider, log, learning and experiments of `nbo serve` in this thread, on a set clock.

Nothing runs beside it, so the same visits give the same decisions again. Stored features are not rebuilt at night:
what happens is added to them as what happened today is, and none expires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from experiments.assignment import Plan
from features.definitions import FeatureSet, feature_set
from features.erasure import erasures
from features.events import check_event, from_us, to_us
from features.facts import Facts
from features.home import Home
from features.live import US_PER_HOUR, offer_features_of
from features.log import Batch, DecisionRow
from features.online import open_online
from features.sqlite_log import SqliteLog
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerReader
from serving.decide import Decider
from serving.decision import Decision, DecisionRequest, PlacementRequest
from serving.demo.world import CHANNELS, World
from serving.drafting import Known
from serving.edition import Edition
from serving.experimenting import Arms
from serving.learning.learner import Learner, own_windows_of
from serving.settings import Settings
from serving.simulation.arms import Arm
from serving.simulation.engine import QUESTIONS, Pages, page_of, rows_of
from serving.simulation.visits import N_PLACES, SECOND_US, Visits
from serving.state.sqlite_contacts import SqliteContacts
from training.scorers import load_champion

NEVER_S = 1e6  # learning is told when to look
ASKED = tuple(
    tuple(PlacementRequest(one["placement_id"], one["limit"]) for one in placements) for placements in QUESTIONS
)


class InProcess:
    """One arm's service. Use `in_process`."""

    step_us = SECOND_US

    def __init__(self, world: World, decider: Decider, log: SqliteLog, learner: Learner, start_us: int) -> None:
        self._decider, self._log, self._learner = decider, log, learner
        self._rows = rows_of(world)
        self._customer_ids = world.customer_ids
        self._now_us = start_us
        decider.clock = lambda: from_us(self._now_us)

    def ask(self, visits: Visits) -> Pages:
        """Nobody comes twice among them, so that all are read at once."""
        asked = list(zip(visits.customers.tolist(), visits.us.tolist(), visits.channel.tolist(), strict=True))
        ids = [self._customer_ids[customer] for customer, _, _ in asked]
        read = self._read(ids, visits.us.tolist())
        decisions = [
            self._decide(who, us, channel, seed, known)
            for who, (_, us, channel), seed, known in zip(ids, asked, visits.seeds.tolist(), read, strict=True)
        ]
        self._log.append_decisions([
            DecisionRow(made.decision_id, made.customer_id, one[1], made.log_payload, exposures=made.exposures)
            for one, made in zip(asked, decisions, strict=True)
        ])  # fmt: skip
        pages = [page_of(self._rows, one[2], _plain(made)) for one, made in zip(asked, decisions, strict=True)]
        return Pages(
            np.array(pages, dtype=np.int64).reshape(len(pages), N_PLACES),
            [one.decision_id for one in decisions],
            visits.us,
            [tuple((met.experiment_id, met.variant) for met in one.experiments) for one in decisions],
            np.array([bool(one.degraded) for one in decisions], dtype=bool),
        )

    def _read(self, ids: Sequence[str], us: Sequence[int]) -> list[Known | None]:
        """Customers as of their visits; None where counters must be read too, which change with every decision."""
        if self._decider.contacts is not None:
            return [None] * len(ids)
        customers = self._decider.edition.customers
        happened, told = customers.happened(list(zip(ids, us, strict=True))), customers.told(ids)
        return [
            Known(customers.assembled(one, did, said, at_us))
            for one, at_us, did, said in zip(ids, us, happened, told, strict=True)
        ]

    def _decide(self, who: str, us: int, channel: int, seed: int, known: Known | None) -> Decision:
        self._now_us, decider = us, self._decider
        asked = DecisionRequest(customer_id=who, placements=ASKED[channel], channel=CHANNELS[channel])
        if known is None:
            return decider.decide(asked, seed)
        return decider.finish(decider.begin(decider.edition, asked, known, seed))

    def tell(self, events: Sequence[dict[str, Any]]) -> None:
        received = from_us(max((to_us(one["occurred_at"]) for one in events), default=self._now_us))
        checked = [check_event({**one, "occurred_at": one["occurred_at"].isoformat()}, received) for one in events]
        self._log.write([Batch(checked, received)])
        self._learner.refresh()


def _plain(decision: Decision) -> list[dict[str, Any]]:
    return [
        {"placement_id": one.placement_id, "offers": [{"offer_id": offer.offer_id} for offer in one.offers]}
        for one in decision.placements
    ]


@contextmanager
def in_process(home: Home, world: World, arm: Arm, settings: Settings, start_us: int) -> Iterator[InProcess]:
    """The service of one arm, on a home that is a copy; see `shop.copy_of`."""
    settings = arm.settings(settings)
    with ExitStack() as stack:
        facts = stack.enter_context(closing(Facts(home.facts_db)))
        log = stack.enter_context(closing(SqliteLog(home.log_db)))
        attribution = facts.data_settings().attribution
        learner = Learner(
            log,
            home.learning_db,
            prior_strength=settings.prior_strength,
            attribution=attribution,
            own_windows=lambda: own_windows_of(facts.catalogue().offers, attribution),
            poll_s=NEVER_S,
        )
        stack.callback(learner.close)
        learner.start()
        edition = _edition(home, facts, log, learner, settings, start_us)
        decider = Decider(edition, settings, lambda: from_us(start_us), facts.data_settings().currency, log=log)
        if edition.limits.any:
            decider.contacts = SqliteContacts(
                home.contacts_db,
                lambda: decider.clock(),
                time_zone=ZoneInfo(settings.time_zone),
                attribution=attribution,
            )
            stack.callback(decider.contacts.close)
        yield InProcess(world, decider, log, learner, start_us)


def _edition(home: Home, facts: Facts, log: SqliteLog, learner: Learner, settings: Settings, start_us: int) -> Edition:
    """As `wiring` prepares it, for good: nothing is swapped while a simulation runs."""
    online = open_online(home, facts)
    declared = online.feature_set if online is not None else feature_set(currency=facts.data_settings().currency)
    lasting = _lasting(declared)
    snapshot = online.snapshot if online is not None else None
    at_us, position = (snapshot.as_of_us, snapshot.log_position) if snapshot is not None else (0, 0)
    customers = CustomerReader(facts, facts, log, lasting, online, at_us, position, erasures(facts) > 0)
    view = CatalogueView(facts.catalogue(), lasting, None)
    hour_us = start_us // US_PER_HOUR * US_PER_HOUR
    stored: Mapping[str, Any] = online.offers() if online is not None else {}
    offers = {offer_id: offer_features_of(lasting, row, hour_us) for offer_id, row in stored.items()}
    edition = Edition(view, customers, load_champion(home.releases), offers, hour_us, learner.beliefs)
    plan = Plan(view.experiments, settings.holdout, 1)
    edition.arms = Arms(edition, settings, plan)
    return edition


def _lasting(declared: FeatureSet) -> FeatureSet:
    """The same features, of which none is ever too old to be read."""
    families = tuple(
        msgspec.structs.replace(
            family, features=tuple(msgspec.structs.replace(one, ttl_days=0.0) for one in family.features)
        )
        for family in declared.families
    )
    return FeatureSet(families, declared.currency)
