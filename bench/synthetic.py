"""Homes to measure with: a catalogue of any size with all rules on, a release, and as many customers as one likes.

The features come out of the ordinary pipeline over a generated lake of 2,000 customers; further customers are copies of
these under other names. The release is drawn at random: 64 factors, a linear acceptance model over every column, a
linear churn model. `.venv/bin/python -m bench.synthetic DIR [--offers N] [--customers N]` makes one to look at.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Budget, Cap, ContactPolicy, Cooldown, Cost, Lever, Offer, Pause, Placement, Treatment
from features.definitions import FeatureSet
from features.facts import Facts
from features.home import Home
from features.online import PROJECT, VIEWS, entity_key, open_online
from features.packed import PACKED
from training.encoder import Column, Encoder, Source
from training.linear import Linear
from training.scorers import (
    FORMAT,
    AcceptanceScorer,
    Calibration,
    ChurnScorer,
    Classifier,
    FactorScorer,
    PopularityScorer,
    Scorer,
    digest,
    json_bytes,
    scorer_files,
)
from training.tokens import Field, Tokens

FACTORS = 64
CATEGORIES, BRANDS = 20, 50
DAYS = 60
LEARNED_FROM = 2_000  # customers of the lake, whose stored rows the others copy
AT = datetime(2026, 3, 2, 12, tzinfo=UTC)  # the instant that the homes are served as of
COUNTRIES = ("AT", "CH", "DE", "FR", "IT", "NL")
TIERS = ("basic", "plus", "premium")
PLACEMENTS = ("home-hero", "home-strip")
CHANNELS = ("app", "email", "web")


@dataclass(frozen=True, slots=True)
class Made:
    """A home that is ready to be served."""

    home: Home
    key: str  # secret, with every scope
    n_offers: int
    n_customers: int

    def environment(self) -> dict[str, str]:
        return {"NBO_HOME": str(self.home.root), "NBO_AS_OF": AT.isoformat()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--offers", type=int, default=1_000)
    options.add_argument("--customers", type=int, default=10_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_customers(Path(folder), given.customers)
        made = with_offers(Path(folder), given.folder, given.offers, given.customers)
    print("".join(f"export {name}={value}\n" for name, value in made.environment().items()) + f"# key: {made.key}")


def customer_name(n: int) -> str:
    return f"b-{n}"


def make_customers(root: Path, n_customers: int, learned_from: int = LEARNED_FROM) -> None:
    """A home with customers in the feature store and their profiles, and no offers yet."""
    from bench.features import FIRST, generate
    from features.compute import build
    from features.feast_repo import apply, materialize

    generate(root, 100 * learned_from, learned_from, DAYS + 1)
    home, facts = Home(root), Facts(root / "facts.db")
    with closing(facts):
        assert datetime.combine(FIRST + timedelta(days=DAYS), datetime.min.time(), UTC) <= AT
        rng = np.random.default_rng(0)
        facts.merge_profiles(_profiles(rng, learned_from, "c-{}"), AT - timedelta(days=DAYS))
        build(home, facts, until=(FIRST + timedelta(days=DAYS)))
        apply(home, facts)
        materialize(home, facts, AT)
        online = open_online(home, facts)
        assert online is not None
        copy_customers(online.path, n_customers)
        online.close()
        facts.merge_profiles(_profiles(rng, n_customers, "b-{}"), AT - timedelta(days=1))


def _profiles(rng: np.random.Generator, n: int, name: str) -> Iterator[tuple[str, dict[str, Any], int | None]]:
    ages = rng.integers(18, 90, n).tolist()
    countries = rng.choice(COUNTRIES, n).tolist()
    tiers = rng.choice(TIERS, n, p=[0.7, 0.2, 0.1]).tolist()
    for i, (age, country, tier) in enumerate(zip(ages, countries, tiers, strict=True)):
        yield name.format(i), {"age": age, "country": country, "tier": tier}, None


def copy_customers(online: Path, n: int) -> None:
    """`n` more customers in an online store, each with the stored row of one who is there, written as Feast would."""
    table = f"{PROJECT}_{VIEWS['customer']}"
    with closing(sqlite3.connect(online)) as db:
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -200000")
        known = [key for (key,) in db.execute(f"SELECT DISTINCT entity_key FROM {table}")]
        copies = sorted((entity_key("customer_id", customer_name(i)), known[i % len(known)]) for i in range(n))
        db.execute("CREATE TEMP TABLE copies (entity_key BLOB PRIMARY KEY, source BLOB) WITHOUT ROWID")
        db.executemany("INSERT INTO copies VALUES (?, ?)", copies)
        db.execute(
            f"INSERT INTO {table} (entity_key, feature_name, value, event_ts, created_ts) "
            "SELECT copies.entity_key, feature_name, value, event_ts, created_ts "
            f"FROM copies CROSS JOIN {table} AS old ON old.entity_key = copies.source"
        )
        db.execute(
            f"INSERT INTO {PACKED} SELECT copies.entity_key, as_of_us, columns "
            f"FROM copies CROSS JOIN {PACKED} AS old ON old.entity_key = copies.source"
        )
        db.commit()


def with_offers(customers: Path, root: Path, n_offers: int, n_customers: int, seed: int = 0) -> Made:
    """Another home with the same customers, `n_offers` offers under all rules, and a release of them."""
    from serving.keys import SCOPES, Keys

    root.mkdir(parents=True)
    for part in ("feast", "features", "lake"):  # read only from here on, so they may share their files
        shutil.copytree(customers / part, root / part, copy_function=_link)
    for name in ("facts.db", "log.db"):
        shutil.copy(customers / name, root / name)
    home = Home(root)
    facts = Facts(home.facts_db)
    with closing(facts):
        fill_catalogue(facts, n_offers, seed)
        online = open_online(home, facts)
        assert online is not None
        write_release(home, online.feature_set, facts.catalogue().offers, n_customers, seed)
        online.close()
        repository = home.feast / "feature_store.yaml"
        text = repository.read_text().replace(str(customers.resolve()), str(root.resolve()))
        repository.unlink()  # it is shared with the other home
        repository.write_text(text)
    keys = Keys(home.facts_db)
    key = keys.create("secret", SCOPES, "bench", AT)
    keys.close()
    return Made(home, key, n_offers, n_customers)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def fill_catalogue(facts: Facts, n_offers: int, seed: int = 0) -> None:
    """Offers with caps, costs, budgets, inventories and rules of three conditions; placements, a policy, a lever."""
    rng = np.random.default_rng(seed)
    currency = facts.data_settings().currency
    with facts.transaction():
        for one in (
            Placement(placement_id="home-hero", name="Hero", channel="web", max_offers=3, max_per_category=2),
            Placement(placement_id="home-strip", name="Strip", channel="web", max_offers=10, max_per_brand=3),
            POLICY,
            Lever(lever_id="push", name="push", factor=1.2, where='offer.category == "category-3"', reason="bench"),
            Lever(lever_id="mobile", name="mobile", factor=1.1, where='context.device == "mobile"', reason="bench"),
            *(_offer(n, rng, currency) for n in range(n_offers)),
        ):
            facts.put(one, AT - timedelta(days=30))


POLICY = ContactPolicy(
    policy_id="calm",
    name="calm",
    caps=(Cap(limit=500, window="1d", of="all"), Cap(limit=100, window="calendar_week", of="category")),
    cooldown=Cooldown(impression="1h", dismiss="30d"),
    pause_after=Pause(for_="14d", ignored=1_000),
    quiet_hours=("22:00", "07:00"),
)


def _offer(n: int, rng: np.random.Generator, currency: str) -> Offer:
    name = f"o-{n:06}"
    payload = {"title": f"Offer {n}", "image_url": f"/images/{n}.webp", "url": f"/offers/{n}"}
    return Offer(
        offer_id=name,
        name=f"Offer {n}",
        value=round(float(rng.lognormal(2.5, 0.6)), 2),
        currency=currency,
        treatments=(Treatment(treatment_id=f"{name}/a", payload=payload),),
        category=f"category-{n % CATEGORIES}",
        status="approved",
        starts_at=AT - timedelta(days=30),
        ends_at=AT + timedelta(days=300),
        channels=("app", "web") if n % 7 == 0 else (),
        eligibility=rule(rng),
        retention=n % 25 == 0,
        cost=Cost(amount=0.05, per="impression") if n % 4 == 0 else None,
        budget=Budget(amount=1e6, per="day" if n % 8 == 0 else "total") if n % 4 == 0 else None,
        pacing=n % 16 == 0,
        inventory=1_000_000 if n % 5 == 0 else None,
        caps=(Cap(limit=20, window="7d"),),
        attributes={"brand": f"brand-{n % BRANDS}", "margin": round(float(rng.uniform(0.1, 0.6)), 2)},
    )


def rule(rng: np.random.Generator) -> str:
    """Three conditions that most customers meet."""
    age, spent = int(rng.integers(18, 30)), int(rng.integers(0, 40))
    left_out = ", ".join(f'"{name}"' for name in rng.choice(COUNTRIES, 2, replace=False))
    third = str(
        rng.choice(
            [f'spent_30d >= {spent} or tier != "basic"', 'context.device != "tv"', "seen_7d < 100", "visits_30d >= 0"]
        )
    )
    return f"age >= {age} and country not in ({left_out}) and ({third})"


# A release


def write_release(home: Home, features: FeatureSet, offers: Sequence[Offer], n_customers: int, seed: int = 0) -> None:
    """Random models of the shape that training makes, as release 1 and champion."""
    rng = np.random.default_rng(seed)
    names = tuple(offer.offer_id for offer in offers)
    models: dict[str, Scorer] = {
        "recommender": recommender(rng, names, n_customers),
        "popularity": PopularityScorer("1", names, _random(rng, len(names)), {}, 0.0),
        "acceptance": AcceptanceScorer("1", classifier(rng, acceptance_columns(features), intercept=-3.0)),
        "churn": ChurnScorer("1", classifier(rng, customer_columns(features), intercept=-1.0)),
    }
    files = {"offers.json": json_bytes(list(names)), "features.json": features.to_json()}
    for model, scorer in models.items():
        files |= {f"{model}/{name}": body for name, body in scorer_files(scorer).items()}
    manifest = json_bytes(
        {
            "format": FORMAT,
            "release": "1",
            "versions": {"release": "1", "recommender": "1", "acceptance": "1", "churn": "1"},
            "calibrated": True,
            "models": sorted(models),
            "offer_map_sha256": digest(files["offers.json"]),
            "files": {name: digest(body) for name, body in files.items()},
        }
    )
    for name, body in {**files, "manifest.json": manifest}.items():
        path = home.releases / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (home.releases / "champion.json").write_bytes(json_bytes({"release": "1", "sha256": digest(manifest)}))


def recommender(rng: np.random.Generator, offers: tuple[str, ...], n_customers: int) -> FactorScorer:
    """Factors of every customer and offer, and of tokens of both; each customer took five offers before."""
    edges, counts = tuple(np.linspace(20, 80, 8).tolist()), (0.5, 1.5, 3.5, 7.5, 15.5, 31.5)
    customer_tokens = Tokens(
        (
            Field("age", edges=edges, has_missing=True),
            Field("country", values=COUNTRIES, has_missing=True),
            Field("tier", values=TIERS, has_missing=True),
            *(Field(name, edges=counts) for name in ("visits_30d", "seen_30d", "accepted_30d")),
        )
    )
    offer_tokens = Tokens((Field("category", values=tuple(f"category-{n}" for n in range(CATEGORIES))),))
    n, taken = len(offers), 5 * n_customers
    return FactorScorer(
        version="1",
        offer_map=offers,
        customers={customer_name(i): i for i in range(n_customers)},
        customer_tokens=customer_tokens,
        offer_tokens=offer_tokens,
        customer_factors=_random(rng, n_customers, FACTORS),
        offer_factors=_random(rng, n, FACTORS),
        offer_biases=_random(rng, n),
        customer_token_factors=_random(rng, customer_tokens.n_tokens, FACTORS),
        offer_token_factors=_random(rng, offer_tokens.n_tokens, FACTORS),
        offer_token_biases=_random(rng, offer_tokens.n_tokens),
        new_offer_bias=0.0,
        new_customer_factors=np.zeros(FACTORS, np.float32),
        new_offer_factors=np.zeros(FACTORS, np.float32),
        repeats=True,
        taken_start=np.arange(0, taken + 1, 5, dtype=np.int64),
        taken=rng.integers(0, n, taken).astype(np.int32),
        taken_boost=np.full(taken, 0.3, np.float32),
    )


def customer_columns(features: FeatureSet) -> tuple[Column, ...]:
    """Every customer feature that is a number, and the categories of the profile."""
    numbers = [Column("customer", feature.name) for feature in features.customer if feature.kind == "number"]
    return (
        *numbers,
        Column("customer", "country", COUNTRIES),
        Column("customer", "tier", ("basic", "plus", "premium")),
    )


def acceptance_columns(features: FeatureSet) -> tuple[Column, ...]:
    """As training chooses them: customer, keyed, offer, its statistics, context, taste."""
    longest = f"{features.longest('customer')}d"
    keyed = [one.name for one in features.customer if one.kind == "keyed" and one.name.endswith(longest)]
    source: dict[str, Source] = {"category": "by_category", "offer": "by_offer", "channel": "by_channel"}
    of = [(next((source[key] for key in source if f"_by_{key}_" in name), None), name) for name in keyed]
    return (
        *customer_columns(features),
        *(Column(kind, name) for kind, name in of if kind is not None),
        Column("offer", "value"),
        Column("offer", "attributes.margin"),
        Column("offer", "category", tuple(f"category-{n}" for n in range(CATEGORIES))),
        Column("offer", "attributes.brand", tuple(f"brand-{n}" for n in range(BRANDS))),
        *(Column("offer_feature", feature.name) for feature in features.offer),
        Column("context", "channel", CHANNELS),
        Column("context", "hour"),
        Column("context", "weekday"),
        Column("affinity", ""),
    )


def classifier(rng: np.random.Generator, columns: tuple[Column, ...], intercept: float) -> Classifier:
    encoder = Encoder(columns)
    categories = np.array(encoder.categorical, dtype=np.int64)
    numbers = np.setdiff1d(np.arange(len(columns)), categories)
    sizes = [len(columns[at].values or ()) + 1 for at in categories]
    n = len(numbers)
    model = Linear(
        numbers=numbers,
        centre=rng.uniform(0.0, 2.0, n),
        scale=rng.uniform(0.5, 2.0, n),
        weights=rng.normal(0.0, 0.15, n),
        missing_weights=rng.normal(0.0, 0.15, n),
        categories=categories,
        starts=np.cumsum([0, *sizes]).astype(np.int64),
        category_weights=rng.normal(0.0, 0.15, sum(sizes)),
        intercept=np.array([intercept]),
    )
    return Classifier("linear", encoder, model, Calibration("sigmoid", 0.9, 0.05))


def _random(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return (rng.standard_normal(shape, dtype=np.float32) * np.float32(0.15)).astype(np.float32)


if __name__ == "__main__":
    main()
