"""`nbo apply`: the catalogue as YAML."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import Cap, ContactPolicy, Lever, Offer, Placement
from features.errors import BadInput
from features.experiment import Experiment
from features.facts import Facts
from serving.api.known import Known
from serving.commands.apply import read, run
from serving.commands.yaml_file import loaded
from tests.conftest import NOW
from tests.serving.catalogue_files import EVERYTHING, blocks

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


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    facts = Facts(tmp_path_factory.mktemp("known") / "facts.db")
    facts.merge_profile("c", NOW, {"age": 30, "tier": "gold", "country": "DE"})
    yield Known("EUR", facts, lambda: None)
    facts.close()


@pytest.fixture
def stored(tmp_path):
    def look():
        facts = Facts(tmp_path / "home/facts.db")
        found = facts.catalogue()
        facts.close()
        return found

    return look


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
        ("placements:", "placement:", "'placement' is no kind of object; did you mean `placements:`?"),
        ("placements:", "nonsense:", "expected `placements:`, `offers:`, `contact_policies:`, `levers:`"),
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


def test_a_fault_names_the_line_it_stands_in(apply):
    text = EVERYTHING.replace("window: 7d", "window: 7 days").replace("spent_30d", "spend_30d")
    lines = text.splitlines()
    with pytest.raises(BadInput) as caught:
        apply(text)
    first, *others = str(caught.value).splitlines()
    assert first == "nothing was stored"
    where = [int(other.split("shop.yaml:")[1].split(":")[0]) for other in others]
    assert ["spend_30d" in lines[where[0] - 1], "7 days" in lines[where[1] - 1], len(where)] == [True, True, 2]
    assert "offers[0] (tea): eligibility: at character 1: " in others[0]
    assert "spent_30d" in others[0]
    assert "contact_policies[0] (calm): caps.0.window: '7 days' is not a window" in others[1]


def test_the_line_of_a_missing_field_is_its_objects(apply):
    with pytest.raises(BadInput, match=r"shop\.yaml:5: offers\[0\] \(tea\): value: Field required"):
        apply(FILE.replace("    value: 4.0\n", ""))


@pytest.mark.parametrize(("page", "text"), blocks(), ids=lambda one: one[:20])
def test_every_catalogue_file_in_the_docs_is_taken(known, tmp_path, page, text):
    (tmp_path / page).write_text(text)
    assert read([tmp_path / page], known)


def test_yaml_is_read_as_editors_read_it():
    lines = "country: NO; quiet: [22:00, 07:00]; day: 2026-06-01; zip: 01067; no: yes; is: true; far: 1e3; of:"
    (found,) = loaded(lines.replace("; ", "\n"))  # expected: the core schema of YAML 1.2.2, section 10.3.2
    assert found == {
        "country": "NO",
        "quiet": ["22:00", "07:00"],
        "day": "2026-06-01",
        "zip": 1067,
        "no": "yes",
        "is": True,
        "far": 1000.0,
        "of": None,
    }


def test_values_that_are_shared_are_merged():
    (found,) = loaded("base: &base {a: 1, b: 1}\nmore: {<<: *base, b: 2}")
    assert found["more"] == {"a": 1, "b": 2}


PIECES = [
    "offers:",
    "- ",
    "  ",
    "\n",
    "offer_id: a",
    "name: x",
    "value: 1",
    "&a",
    "*a",
    "<<",
    "[",
    "{",
    "!!int",
    "x",
    "'",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map("".join))
def test_whatever_a_file_holds_a_fault_is_a_sentence(known, tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "odd.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(BadInput):
        read([path], known)


def test_an_object_may_stand_once(apply):
    with pytest.raises(BadInput, match=r"shop\.yaml:12: offer tea stands twice, first at .*shop\.yaml:5"):
        apply(FILE + FILE[FILE.index("offers:") :].replace("offers:", "").rstrip() + "\n")


def test_a_cost_that_would_be_counted_as_nothing_is_refused(apply):
    with pytest.raises(BadInput, match=r"shop\.yaml:8: .*cost.*amount.*must be whole millionths of the currency"):
        apply(FILE.replace("    status", "    cost: {amount: 0.0000001, per: impression}\n    status"))


def test_every_kind_of_object_can_be_applied(apply, stored):
    kinds = [("hero", "created"), ("tea", "created"), ("calm", "created"), ("push", "created"), ("sampling", "created")]
    assert apply(EVERYTHING) == kinds
    found = stored()
    (policy,), (lever,), (offer,) = found.contact_policies, found.levers, found.offers
    assert isinstance(policy, ContactPolicy)
    assert policy.caps == (Cap(of="all", limit=3, window="7d"),)
    assert (policy.quiet_hours, policy.pause_after.for_) == (("22:00", "07:00"), "14d")
    assert isinstance(lever, Lever)
    assert lever.where == 'offer.category == "drinks"'
    assert (offer.cost.amount, offer.budget.per, offer.inventory, offer.pacing) == (2.0, "day", 100, True)
    (experiment,) = found.experiments
    assert isinstance(experiment, Experiment)
    assert (experiment.variants[1].treatments, experiment.guardrails[1].min_relative) == ({"tea": "tea/a"}, -0.05)
    assert apply(EVERYTHING) == [(name, "none") for name, _ in kinds]


def test_a_change_is_kept_as_applied(apply, tmp_path):
    apply(EVERYTHING)
    apply(EVERYTHING.replace("factor: 1.3", "factor: 1.5"))
    facts = Facts(tmp_path / "home/facts.db")
    told = [(change.by, change.body.factor) for change in facts.changes(Lever, "push")]
    facts.close()
    assert told == [("nbo apply", 1.5), ("nbo apply", 1.3)]


def test_what_a_get_showed_can_be_applied(apply, stored, tmp_path):
    apply(EVERYTHING)
    from functools import partial

    from serving.api import contact_policies, experiments, levers, offers, placements
    from serving.state.contacts import Stock

    facts = Facts(tmp_path / "home/facts.db")
    shown = {
        "placements": [placements.show(facts.get(Placement, "hero"))],
        "offers": [partial(offers.show, Stock())(facts.get(Offer, "tea"))],
        "contact_policies": [contact_policies.show(facts.get(ContactPolicy, "calm"))],
        "levers": [levers.show(facts, facts.get(Lever, "push"))],
        "experiments": [experiments.show(facts, facts.get(Experiment, "sampling"))],
    }
    facts.close()
    assert {change for _, change in apply(json.dumps(shown, default=str))} == {"none"}


def test_a_name_that_leads_nowhere_is_said_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    path = tmp_path / "shop.yaml"
    changed = {"placements: [hero]": "placements: [heroo]", "fallback_offer_id: tea": "fallback_offer_id: te"}
    text = EVERYTHING
    for old, new in changed.items():
        text = text.replace(old, new)
    path.write_text(text)
    assert run([path], dry_run=False, as_json=False) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{path}:3: placement hero: fallback_offer_id names te, which is no offer; close is tea",
        f"{path}:12: offer tea: placements names heroo, which is no placement; close is hero",
        f"{path}:12: offer tea: treatments.0.placements names heroo, which is no placement; close is hero",
        "5 of 5 objects changed",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("offer_id: tea", "ofer_id: tea", "ofer_id: is not a field that we know; close is offer_id"),
        ("status: approved", "staus: approved", "staus: is not a field that we know; close is status"),
    ],
)
def test_a_field_that_was_misspelt_is_answered_with_the_close_one(known, tmp_path, old, new, told):
    path = tmp_path / "shop.yaml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(BadInput, match=f": {told}$"):
        read([path], known)


def test_what_is_no_yaml_is_told_with_the_name_of_the_file(known, tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text("offers: [1,\nb: 2}\n")
    with pytest.raises(BadInput) as error:
        read([path], known)
    assert "unicode string" not in str(error.value)
    assert f"in {path}, line 2" in str(error.value)
