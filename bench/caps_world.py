"""The shop of the bench of caps: what is scarce in it, what is noted of a decision, and what is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from features.catalogue import Budget, Cap, ContactPolicy, Cooldown, Cost, Offer, Pause, Placement, Treatment
from features.data_settings import Attribution
from features.events import to_us
from features.facts import Catalogue
from serving.rules.budget import BudgetRule
from serving.rules.caps import CapsRule
from serving.rules.cooldown import CooldownRule
from serving.rules.inventory import InventoryRule
from serving.rules.pacing import PacingRule
from serving.rules.pause import PauseRule

START_US = to_us(datetime(2026, 3, 4, 18, tzinfo=UTC))
MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
LAPSE_US = 30 * MINUTE_US
WINDOW_US = 6 * HOUR_US
ATTRIBUTION = Attribution(window_days=0.25)
SHORTEST_US, LONGEST_US = 12 * HOUR_US, 60 * HOUR_US  # simulated: at least one midnight and many lapses
PER_DECISION_US = 2_000_000  # simulated time goes on with every decision, however fast the machine is
RESTS_US, RESTS_DISMISSED_US = 5 * MINUTE_US, 24 * HOUR_US
IGNORED, PAUSED_US = 5, HOUR_US
CLOCKS_US = 1_000_000  # by which processes that started at different moments differ, at most
CHANGEABLE = 25  # contacts after which an answer may come too late to change a run that is over
BATCH = 16
HOT, TAIL = 60, 20_000
BLIND = 0.1
EVENTS_EVERY = 4  # batches of decisions per durable write of events
KILL_EVERY = 20_000  # decisions, at least: a new process takes a while to start
N_OFFERS = 60
LIMITING = (CooldownRule, PauseRule, CapsRule, InventoryRule, BudgetRule, PacingRule)
AUDIT = """
CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY, offer_id TEXT, units INTEGER, spent INTEGER, day TEXT, today INTEGER
);
CREATE TRIGGER IF NOT EXISTS audit_new AFTER INSERT ON stock BEGIN
    INSERT INTO audit VALUES (NULL, new.offer_id, new.units, new.spent, new.day, new.today); END;
CREATE TRIGGER IF NOT EXISTS audit_more AFTER UPDATE ON stock BEGIN
    INSERT INTO audit VALUES (NULL, new.offer_id, new.units, new.spent, new.day, new.today); END;
"""


class Granted(NamedTuple):
    """One decision as its worker noted it, after the claim had returned."""

    decision_id: str
    customer_id: str
    decided_us: int
    placement_id: str
    offer_ids: list[str]
    began_us: int = 0
    ended_us: int = 0

    @property
    def read_us(self) -> int:
        """All that was certainly in the log by then was known."""
        return self.began_us - CLOCKS_US

    @property
    def until_us(self) -> int:
        """Nothing that came into the log from then on was known."""
        return self.ended_us + CLOCKS_US


@dataclass
class Report:
    """What was done, and what was found wrong with it."""

    decisions: int = 0
    granted: int = 0
    contacts: int = 0
    empty: int = 0  # decisions for which nothing was left
    lost_races: int = 0  # claims refused by the transaction after the rules had let them pass
    refused_blind: int = 0
    cancelled: int = 0
    events: int = 0
    killed: int = 0
    processes: int = 0
    seconds: float = 0.0
    per_s: float = 0.0
    claim_p50_us: float = 0.0  # of a batch of 16
    claim_p99_us: float = 0.0
    stock_states: int = 0  # committed states of the stock that were checked
    instants: int = 0  # at which caps were counted
    exhausted: int = 0  # offers that were once used up to their limit
    cap_violations: int = 0
    cooldown_violations: int = 0
    pauses: int = 0  # that came to an end in the run, or would have
    pauses_checked: int = 0  # decisions of which it is certain what was known
    pause_violations: int = 0
    stock_violations: int = 0
    leaked: int = 0  # holds that nobody would ever give back, and units that nobody can account for
    uncounted_events: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        contacts = self.cap_violations, self.cooldown_violations, self.pause_violations
        wrong = *contacts, self.stock_violations, self.leaked, self.uncounted_events
        return not any(wrong) and self.granted > 0

    def found(self, what: str, example: str) -> None:
        setattr(self, what, getattr(self, what) + 1)
        if len(self.examples) < 10:
            self.examples.append(f"{what}: {example}")


def catalogue(decisions: int) -> Catalogue:
    """A third each: scarce units, money per impression (in total, or per day and paced), money per acceptance."""
    scarce = max(decisions // 200, 5)
    offers = []
    for n in range(N_OFFERS):
        more: dict[str, Any] = {"caps": (Cap(limit=2 + n % 3, window=("6h", "1d", "calendar_day")[n % 3]),)}
        if n % 6 == 0:
            more["inventory"] = scarce + n // 6
        elif n % 6 == 1:
            more |= {"cost": Cost(amount=0.1, per="impression"), "budget": Budget(amount=scarce * 0.1, per="total")}
        elif n % 6 == 2:
            more |= {"cost": Cost(amount=0.3, per="impression"), "budget": Budget(amount=scarce * 0.1, per="day")}
            more["pacing"] = n % 12 == 2
        elif n % 6 == 3:
            more |= {"cost": Cost(amount=1.7, per="accept"), "budget": Budget(amount=scarce * 1.0, per="total")}
            more["inventory"] = scarce
        offers.append(
            Offer(
                offer_id=f"o-{n:02d}", name="x", value=1.0, currency="EUR", category=f"k-{n % 5}", status="approved",
                treatments=(Treatment(treatment_id="t"),), **more,
            )
        )  # fmt: skip
    calm = ContactPolicy(
        policy_id="calm",
        name="calm",
        caps=(
            Cap(limit=12, window="6h", of="all"),
            Cap(limit=6, window="12h", of="category"),
            Cap(limit=20, window="calendar_day", of="placement"),
        ),
        cooldown=Cooldown(impression="5m", dismiss="1d"),
        pause_after=Pause(ignored=IGNORED, for_="1h"),
    )
    placements = (
        Placement(placement_id="hero", name="hero", channel="web"),
        Placement(placement_id="strip", name="strip", channel="web"),
    )
    return Catalogue(1, tuple(offers), placements, contact_policies=(calm,))
