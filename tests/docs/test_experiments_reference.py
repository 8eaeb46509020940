"""The reference of experiments: its worked example of who meets what is computed, and is what the service does."""

from __future__ import annotations

import doctest
import re

import msgspec
import yaml

from experiments.assignment import Plan, bucket
from features.events import visitor_key
from features.experiment import Experiment
from serving.customer import CustomerNow
from serving.decision import DecisionRequest
from serving.experiment_lifecycle import started
from serving.experimenting import units_of
from tests.conftest import NOW, ROOT

PAGE = (ROOT / "docs/reference/experiments.md").read_text()
(FILE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def variant(customer_id=None, anonymous_id=None):
    """What the service assigns in the experiment of the page, which runs alone."""
    draft = msgspec.convert(yaml.safe_load(FILE)["experiments"][0], Experiment)
    key = visitor_key(customer_id, anonymous_id)
    customer = CustomerNow(customer_id=key, features={}, known=False, snapshot_us=None)
    units = units_of(DecisionRequest(customer_id=key, placements=()), customer)
    (entry,) = Plan([started(draft, [], NOW)], 0.0, 1).assign(units, lambda experiment: True).entries
    return entry.variant


def test_the_example_says_what_it_computes_and_so_does_the_service():
    names: dict[str, object] = {}
    parsed = doctest.DocTestParser().get_doctest(EXAMPLE, names, "experiments.md", None, 0)
    assert doctest.DocTestRunner().run(parsed, clear_globs=False) == (0, len(parsed.examples))
    worked = parsed.globs
    for unit in (worked["known"], worked["visitor"]):
        for salt in ("layer:policy", "experiment:sampling"):
            assert worked["bucket"](salt, unit) == bucket(salt, unit)
    assert worked["visitor"] == visitor_key(None, "v-2")
    assert worked["known"] == visitor_key("c-2", None)


def test_the_variants_of_the_example_are_those_that_the_service_assigns():
    """Without the control character the visitor would not even take part."""
    assert variant(customer_id="c-2") == "control"
    assert variant(anonymous_id="v-2") == "sampling"
    assert bucket("layer:policy", "v-2") >= 5_000
