"""Online Retail and msweb as interactions, cut as their published figures were."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from bench.proof import ROOT, shared_data
from features.catalogue import Offer
from features.events import to_us
from training.interactions import Interactions

VALIDATION, TEST, END = (datetime(*day, tzinfo=UTC) for day in ((2011, 10, 1), (2011, 11, 1), (2011, 12, 10)))
MSWEB_US = to_us(datetime(1998, 2, 1, tzinfo=UTC))  # one week of February 1998; the file has no other times


class Retail(NamedTuple):
    """All purchases, and where the parts begin and end."""

    everything: Interactions
    validation_us: int
    test_us: int
    end_us: int


def online_retail() -> Retail:
    """Purchases as the recipe of the project reads them, of the products that were sold before the test part begins.

    A product that is first sold later is in no catalogue of that day: that it is in the file is knowledge of the
    future, as an offer that nobody ever took would be one that is about to be taken.
    """
    db = duckdb.connect(config={"threads": 1})
    db.execute("SET TimeZone = 'UTC'")
    for name, value in (
        ("source", shared_data() / "online_retail"),
        ("time_zone", "Europe/London"),
        ("currency", "GBP"),
    ):
        db.execute(f"SET VARIABLE {name} = $1", [str(value)])
    folder = ROOT / "features" / "recipes" / "online_retail"
    offers = db.execute((folder / "offers.sql").read_text()).df()
    events = db.execute(
        f"SELECT customer_id, offer_id, epoch_us(occurred_at) AS us FROM ({(folder / 'events.sql').read_text()}) "
        "ORDER BY us, event_id"
    ).df()
    sold = set(events.loc[events["us"] < to_us(TEST), "offer_id"])
    events = events[events["offer_id"].isin(sold)]
    catalogue = [_offer(str(row.offer_id), str(row.name)) for row in offers[offers["offer_id"].isin(sold)].itertuples()]
    everything = interactions(
        events["customer_id"].tolist(), events["offer_id"].tolist(), events["us"].to_numpy(np.int64), catalogue
    )
    return Retail(everything, to_us(VALIDATION), to_us(TEST), to_us(END))


class Visits(NamedTuple):
    """Visitors of the training file, and both halves of the areas of those of the test file."""

    train: Interactions
    given: Interactions
    rest: Interactions


def msweb(seed: int) -> Visits:
    """A random half of each test visitor's areas is given, at least one on either side; axes are shared."""
    areas, train = _visits("anonymous-msweb.data.gz")
    more, test = _visits("anonymous-msweb.test.gz")
    catalogue = [_offer(area, title) for area, title in {**areas, **more}.items()]
    random = np.random.default_rng(seed)
    given: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    for visitor, seen in test.items():
        if len(seen) < 2:
            continue  # nothing to give, or nothing to find
        order = random.permutation(len(seen))
        half = len(seen) // 2
        given += [(f"test-{visitor}", seen[at]) for at in order[:half]]
        rest += [(f"test-{visitor}", seen[at]) for at in order[half:]]
    learned = [(visitor, area) for visitor, seen in train.items() for area in seen]
    pairs = learned + given + rest
    everything = interactions(
        [visitor for visitor, _ in pairs], [area for _, area in pairs], np.full(len(pairs), MSWEB_US), catalogue
    )
    part = np.repeat([0, 1, 2], [len(learned), len(given), len(rest)])
    return Visits(*(everything.part(part == of) for of in range(3)))


def interactions(
    customer_ids: Sequence[str], offer_ids: Sequence[str], us: NDArray[np.int64], catalogue: Sequence[Offer]
) -> Interactions:
    """Rows in the order given, which is that of time; each of weight 1."""
    offers = tuple(sorted(catalogue, key=lambda offer: offer.offer_id))
    offer_row = {offer.offer_id: row for row, offer in enumerate(offers)}
    customers = sorted(set(customer_ids))
    customer_row = {customer: row for row, customer in enumerate(customers)}
    return Interactions(
        customers=tuple(customers),
        offers=offers,
        profiles=[{}] * len(customers),
        customer=np.array([customer_row[one] for one in customer_ids], np.int32),
        offer=np.array([offer_row[one] for one in offer_ids], np.int32),
        weight=np.ones(len(customer_ids), np.float32),
        occurred_us=np.asarray(us, np.int64),
    )


def _visits(name: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Titles by area, and areas by visitor."""
    areas: dict[str, str] = {}
    visits: dict[str, list[str]] = {}
    visitor = ""
    with gzip.open(shared_data() / "msweb" / name, "rt", encoding="latin-1") as lines:
        for line in lines:
            kind, *rest = line.strip().split(",")
            if kind == "A":
                areas[rest[0]] = rest[2].strip('"')
            elif kind == "C":
                visitor = rest[1]
                visits[visitor] = []
            elif kind == "V":
                visits[visitor].append(rest[0])
    return areas, visits


def _offer(offer_id: str, name: str) -> Offer:
    """Without what the catalogue learned later, such as a median price."""
    return Offer(offer_id=offer_id, name=name, value=0.0, currency="", treatments=())
