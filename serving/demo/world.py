"""Who and what there is in the simulated shop: customers with latent tastes, offers, placements; no trainer sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer, Placement, Treatment
from features.events import US_PER_DAY, from_us, to_us

CURRENCY = "EUR"
CATEGORIES = ("shoes", "outdoor", "kitchen", "books", "garden", "toys", "beauty", "audio")
PRODUCTS = {
    "shoes": ("Trail runners", "City sneakers", "Hiking boots", "Sandals"),
    "outdoor": ("Two-person tent", "Sleeping bag", "Rain jacket", "Camping stove"),
    "kitchen": ("Chef's knife", "Espresso maker", "Cast-iron pan", "Stand mixer"),
    "books": ("Crime novels", "Travel guides", "Cookbooks", "Picture books"),
    "garden": ("Rose bushes", "Raised bed", "Pruning shears", "Garden chairs"),
    "toys": ("Wooden railway", "Building blocks", "Board games", "Kites"),
    "beauty": ("Face serum", "Shaving set", "Hand cream", "Perfume"),
    "audio": ("Headphones", "Record player", "Soundbar", "Microphone"),
}
SEGMENTS = ("bargain", "loyal", "explorer", "premium")
COUNTRIES = ("DE", "FR", "NL", "AT", "ES")
CHANNELS = ("web", "app")
PLACEMENTS = (
    Placement(placement_id="home-hero", name="hero on the home page", channel="web", max_offers=1),
    Placement(placement_id="home-strip", name="strip under the hero", channel="web", max_offers=3),
    Placement(placement_id="app-card", name="cards in the app", channel="app", max_offers=2),
)
PAGES = np.array(((0, 1, 1, 1), (2, 2, -1, -1)))  # by channel: the placement of each place on its page; -1 is none
N_TASTES = 6

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much shop."""

    n_customers: int = 2_500
    n_offers: int = 50
    n_days: int = 45  # of history before now


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The truth about everybody and everything; rows of the arrays are customers (n,) or offers (m,)."""

    seed: int
    size: Size
    now_us: int  # the history ends here

    taste: Floats  # (n, N_TASTES)
    segment: Ints  # (n,) into SEGMENTS
    price_sensitivity: Floats  # (n,)
    budget: Floats  # (n,) currency per 30 days
    visits_per_day: Floats  # (n,)
    peak_hour: Floats  # (n,) UTC
    app_share: Floats  # (n,) of visits
    churn_hazard: Floats  # (n,) per day
    joined_us: Ints  # (n,)
    age: Ints  # (n,)
    country: Ints  # (n,) into COUNTRIES

    appeal: Floats  # (m, N_TASTES)
    category_taste: Floats  # (len(CATEGORIES), N_TASTES)
    category: Ints  # (m,) into CATEGORIES
    quality: Floats  # (m,) appeal to everybody
    price: Floats  # (m,) currency
    discount: Ints  # (m,) percent
    value: Floats  # (m,) margin of one acceptance, currency
    starts_us: Ints  # (m,)
    ends_us: Ints  # (m,)

    @property
    def customer_ids(self) -> list[str]:
        return [f"c-{row:05d}" for row in range(1, self.size.n_customers + 1)]

    @property
    def offer_ids(self) -> list[str]:
        """Category and number, so that a reader of the log can see what was offered."""
        return [f"{CATEGORIES[category]}-{row + 1:02d}" for row, category in enumerate(self.category)]

    @property
    def begins_us(self) -> int:
        """Midnight of the first day of history."""
        return (self.now_us // US_PER_DAY - self.size.n_days) * US_PER_DAY


def make_world(seed: int, size: Size, now: datetime) -> World:
    """The same seed, size and instant give the same world."""
    rng = np.random.default_rng([seed, 1])
    now_us = to_us(now)
    begins_us = (now_us // US_PER_DAY - size.n_days) * US_PER_DAY
    category_taste = _unit(rng.normal(size=(len(CATEGORIES), N_TASTES)))
    return World(
        seed=seed,
        size=size,
        now_us=now_us,
        category_taste=category_taste,
        **_customers(rng, size, category_taste, begins_us, now_us),
        **_offers(rng, size, category_taste, begins_us, now_us),
    )


def _customers(
    rng: np.random.Generator, size: Size, category_taste: Floats, begins_us: int, now_us: int
) -> dict[str, Any]:
    n = size.n_customers
    segment = rng.choice(len(SEGMENTS), n, p=(0.35, 0.3, 0.2, 0.15))
    favourite = rng.integers(len(CATEGORIES), size=n)
    since_opening = rng.uniform(0.0, 1.0, n)  # a quarter joined while the history runs
    history_us = now_us - begins_us
    joined_us = begins_us + np.where(
        since_opening < 0.75, -rng.uniform(10, 900, n) * US_PER_DAY, rng.uniform(0, 0.97, n) * history_us
    )
    age = np.clip(rng.normal(42, 13, n), 18, 90)
    return {
        "taste": _unit(category_taste[favourite] + 0.22 * rng.normal(size=(n, N_TASTES))),
        "segment": segment,
        "price_sensitivity": np.array((1.3, 0.7, 0.5, 0.15))[segment] * rng.lognormal(0, 0.25, n),
        "budget": np.array((60.0, 120.0, 110.0, 320.0))[segment] * rng.lognormal(0, 0.35, n),
        "visits_per_day": np.array((0.40, 0.55, 0.40, 0.30))[segment] * rng.lognormal(0, 0.6, n),
        "peak_hour": np.where(rng.random(n) < 0.35, rng.normal(8, 1.5, n), rng.normal(19, 2, n)) % 24,
        "app_share": rng.beta(2, 3, n) + np.where(age < 35, 0.15, 0.0),
        "churn_hazard": np.array((0.010, 0.002, 0.006, 0.004))[segment] * rng.lognormal(0, 0.7, n),
        "joined_us": joined_us.astype(np.int64),
        "age": age.astype(np.int64),
        "country": rng.choice(len(COUNTRIES), n, p=(0.45, 0.2, 0.15, 0.1, 0.1)),
    }


def _offers(
    rng: np.random.Generator, size: Size, category_taste: Floats, begins_us: int, now_us: int
) -> dict[str, Any]:
    m = size.n_offers
    category = np.arange(m) % len(CATEGORIES)
    price = np.round(rng.lognormal(3.4, 0.6, m), 2)
    discount = rng.choice((0, 10, 15, 20, 25, 30), m)
    history_us = now_us - begins_us
    course = rng.permutation(m) / m  # 70 % always, 12 % began meanwhile, 10 % are over, 5 % just began, 3 % to come
    far_us = 400 * US_PER_DAY
    starts_us = np.select(
        [course < 0.70, course < 0.82, course < 0.92, course < 0.97],
        [
            begins_us - far_us,
            begins_us + rng.uniform(0.2, 0.8, m) * history_us,
            begins_us - far_us,
            now_us - US_PER_DAY,
        ],
        now_us + 7 * US_PER_DAY,
    )
    is_over = (course >= 0.82) & (course < 0.92)
    ends_us = np.where(is_over, begins_us + rng.uniform(0.3, 0.9, m) * history_us, now_us + far_us)
    return {
        "appeal": _unit(category_taste[category] + 0.22 * rng.normal(size=(m, N_TASTES))),
        "category": category,
        "quality": rng.normal(0, 0.4, m),
        "price": price,
        "discount": discount,
        "value": np.round(price * (0.5 - discount / 100) * rng.uniform(0.8, 1.2, m), 2),
        "starts_us": _whole_hours(starts_us),
        "ends_us": _whole_hours(ends_us),
    }


def catalogue(world: World) -> list[Offer]:
    """The offers as a marketer would have entered them."""
    return [_offer(world, row, offer_id) for row, offer_id in enumerate(world.offer_ids)]


def _offer(world: World, row: int, offer_id: str) -> Offer:
    category = CATEGORIES[world.category[row]]
    products = PRODUCTS[category]
    product = products[row // len(CATEGORIES) % len(products)]
    discount = int(world.discount[row])
    name = f"{discount} % off {product.lower()}" if discount else f"New: {product.lower()}"
    payload = {"title": name, "body": f"Now {world.price[row]:.2f} {CURRENCY}", "url": f"/offers/{offer_id}"}
    return Offer(
        offer_id=offer_id,
        name=name,
        value=float(world.value[row]),
        currency=CURRENCY,
        treatments=(Treatment(treatment_id=f"{offer_id}/a", payload=payload),),
        category=category,
        status="approved",
        starts_at=from_us(int(world.starts_us[row])),
        ends_at=from_us(int(world.ends_us[row])),
        attributes={"price": float(world.price[row]), "discount": discount},
    )


def observed(world: World) -> dict[str, list[object]]:
    """What the shop knows of its customers, by column: none of it is the truth itself, some of it hints at it."""
    rng = np.random.default_rng([world.seed, 2])
    tier = np.where(rng.random(world.size.n_customers) < 0.8, world.segment, rng.integers(4, size=world.segment.size))
    opened = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=2_000)
    return {
        "customer_id": list(world.customer_ids),
        "age": world.age.tolist(),
        "country": [COUNTRIES[row] for row in world.country],
        "tier": [("basic", "regular", "curious", "gold")[row] for row in tier],
        "newsletter": (rng.random(world.size.n_customers) < 0.4).tolist(),
        "member_since": [max(from_us(int(us)), opened) for us in world.joined_us],
    }


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _whole_hours(us: Floats) -> Ints:
    return np.asarray(us, dtype=np.int64) // 3_600_000_000 * 3_600_000_000
