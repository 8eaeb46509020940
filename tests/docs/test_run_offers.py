"""The how-to for marketers: each of its files is applied, and decides as the page says."""

from __future__ import annotations

import json
import re
import time

import pytest
from fastapi.testclient import TestClient

from features.catalogue import Offer
from serving.app import create_app
from serving.commands.apply import run
from serving.keys import SCOPES
from serving.rules import RULES
from serving.settings import load_settings
from serving.wiring import build
from tests.conftest import ROOT
from tests.serving.catalogue_files import BLOCK

PAGE = (ROOT / "docs/how-to/run-offers.md").read_text()
CUSTOMERS = {
    "anna": {"tier": "gold", "country": "DE", "age": 34},
    "ben": {"tier": "silver", "country": "DE", "age": 51},
    "carl": {"tier": "gold", "country": "DE"},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A service on an empty home, and a function that applies the page's files up to and with a heading."""
    root = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("NBO_HOME", str(root / "home"))
        environ.setenv("NBO_AS_OF", "2026-06-15T10:00:00Z")
        environ.setenv("NBO_POLICY", "greedy")
        service = build(load_settings())
        with TestClient(create_app(service)) as client:
            key = service.keys.create("secret", SCOPES, "", service.clock())
            client.headers["Authorization"] = f"Bearer {key}"
            for name, attributes in CUSTOMERS.items():
                client.put(f"/v1/customers/{name}", json={"attributes": attributes})
            for n, text in enumerate(BLOCK.findall(PAGE)):
                (root / f"{n}.yaml").write_text(text)
            yield Shop(service, client, root)


class Shop:
    def __init__(self, service, client, root):
        self.service, self.client, self.root = service, client, root

    def apply(self, n_files):
        """The page's first files, live."""
        assert run([self.root / f"{n}.yaml" for n in range(n_files)], dry_run=False, as_json=False) == 0
        deadline = time.monotonic() + 5
        while self.service.decider.edition.view.version < self.service.facts.catalogue_version():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ask(self, customer, placement="home-hero", **more):
        body = {"customer_id": customer, "placements": [{"placement_id": placement}], **more}
        answer = self.client.post("/v1/decisions", json={"deadline_ms": 5000, **body})
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["placements"]
        return found

    def offered(self, customer, placement="home-hero", **more):
        return [one["offer_id"] for one in self.ask(customer, placement, **more)["offers"]]


def test_each_file_does_what_the_page_says(shop):
    shop.apply(1)
    assert shop.offered("anna", dry_run=True) == ["run20"]

    shop.apply(2)
    assert shop.offered("anna", dry_run=True) == ["gold-lounge"]
    assert shop.offered("ben", dry_run=True) == ["run20"]
    assert shop.offered("carl", dry_run=True) == ["run20"]  # whose age is not known

    shop.apply(3)
    socks = [shop.offered(name, "checkout") for name in ("anna", "anna", "ben", "carl")]
    assert socks == [["free-socks"], ["cashback"], ["free-socks"], ["cashback"]]
    assert shop.client.get("/v1/offers/free-socks").json()["left"] == 0
    assert shop.client.get("/v1/offers/cashback").json()["budget_left"] == 500 - 2 * 5

    shop.apply(4)
    week = [shop.offered("dora", placement) for placement in ("home-hero", "checkout", "home-hero")]
    assert week == [["run20"], ["cashback"], ["newsletter"]]  # what was just shown rests

    shop.apply(5)
    assert shop.offered("ben", dry_run=True) == ["yoga-mat"]
    fourth = shop.ask("dora", explain=True)
    assert fourth["offers"] == []
    assert {one["offer_id"]: one["rule"] for one in fourth["not_offered"]}["yoga-mat"] == "caps"
    (change,) = shop.client.get("/v1/levers/yoga-week").json()["changes"]
    assert (change["by"], change["reason"]) == ("nbo apply", "International Day of Yoga, agreed with the buyers")

    shop.apply(6)
    assert shop.service.facts.get(Offer, "stay").body.retention


def test_the_explanation_is_the_one_on_the_page(shop):
    shop.apply(6)
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    answer = shop.ask("ben", explain=True, dry_run=True)
    assert json.loads(shown) in answer["not_offered"]


def test_every_rule_is_in_the_table():
    table = PAGE[PAGE.index("| rule |") :]
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))
    assert {rule.name for rule in RULES} <= set(named)


def test_the_file_in_the_readme_is_one_that_nbo_apply_takes(shop):
    texts = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(texts) == 2  # offers with all about them, and an experiment
    for text in texts:
        (shop.root / "readme.yaml").write_text(text)
        assert run([shop.root / "readme.yaml"], dry_run=True, as_json=False) == 0
