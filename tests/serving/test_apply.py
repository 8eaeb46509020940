"""`nbo apply`: the catalogue as YAML."""

from __future__ import annotations

import json

import pytest

from features.catalogue import Offer, Placement
from features.errors import BadInput
from features.facts import Facts
from serving.commands.apply import run

FILE = """
placements:
  - {placement_id: hero, name: hero, channel: web}
offers:
  - offer_id: tea
    name: A box of tea
    value: 4.0
    status: approved
    starts_at: 2026-03-01T00:00:00+01:00
    treatments: [{treatment_id: tea/a, payload: {title: Tea}}]
"""


@pytest.fixture
def apply(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    path = tmp_path / "shop.yaml"

    def make(text=FILE, *, dry_run=False, as_json=True):
        path.write_text(text)
        run([path], dry_run=dry_run, as_json=as_json)
        out = capsys.readouterr().out
        return [(one["id"], one["change"]) for one in json.loads(out)["objects"]] if as_json else out

    return make


@pytest.fixture
def stored(tmp_path):
    def read():
        facts = Facts(tmp_path / "home/facts.db")
        found = facts.catalogue()
        facts.close()
        return found

    return read


def test_what_a_file_says_is_stored_with_the_defaults_of_the_api(apply, stored):
    assert apply() == [("hero", "created"), ("tea", "created")]
    (offer,), (placement,) = stored().offers, stored().placements
    assert isinstance(offer, Offer)
    assert isinstance(placement, Placement)
    assert (offer.currency, offer.priority, offer.starts_at.isoformat()) == ("EUR", 0, "2026-02-28T23:00:00+00:00")
    assert placement.max_offers == 10


def test_the_same_file_again_changes_nothing(apply, stored):
    apply()
    version = stored().version
    assert apply() == [("hero", "none"), ("tea", "none")]
    assert stored().version == version


def test_a_dry_run_prints_the_difference_and_stores_nothing(apply, stored):
    apply()
    text = apply(FILE.replace("4.0", "5.0"), dry_run=True, as_json=False)
    assert "-value: 4.0\n" in text
    assert "+value: 5.0\n" in text
    assert stored().offers[0].value == 4.0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("value: 4.0", "value: much", r"offers\[0\] \(tea\): value: "),
        ("value: 4.0", "valeu: 4.0", r"offers\[0\] \(tea\): "),
        ("offer_id: tea", "offer_id: two words", r"offers\[0\]"),
        ("placements:", "placement:", "expected `offers:` or `placements:`"),
        ("name: A box of tea", "name: tea\n    name: again", "stands twice"),
        ("status: approved", "currency: USD", "this deployment's is EUR"),
        ("2026-03-01T00:00:00+01:00", "2026-03-01", "starts_at"),
        ("offers:", "offers: {", "not valid YAML"),
    ],
)
def test_a_fault_names_its_place_and_nothing_is_stored(apply, stored, old, new, words):
    with pytest.raises(BadInput, match=words):
        apply(FILE.replace(old, new))
    assert stored().offers == stored().placements == ()


def test_an_object_may_stand_once(apply):
    with pytest.raises(BadInput, match="offer 'tea' stands twice"):
        apply(FILE + FILE[FILE.index("offers:") :].replace("offers:", "").rstrip() + "\n")
