"""The gate and the report: what they say, and that a report shows what could not be computed as that."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from experiments.offpolicy.evaluation import evaluate
from experiments.offpolicy.gate import no_verdict, off_policy_gate
from experiments.offpolicy.logged import Logged, same_for_all
from experiments.offpolicy.plots import pictures
from experiments.offpolicy.report import Report, document_of
from experiments.offpolicy.reward_models import fit_offer_means
from experiments.report.render import render


def a_log(n=2_000, seed=0, chances=(0.1, 0.9)):
    """Two offers drawn evenly, accepted by 0.2 and 0.5."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 2, n)
    return Logged(
        offers=("a", "b"), action=action, probability=np.full(n, 0.5),
        reward=(rng.random(n) < np.where(action == 1, 0.5, 0.2)).astype(float), chances=same_for_all(chances, n),
        propensity=same_for_all([0.5, 0.5], n),
    )  # fmt: skip


def test_the_gate_refuses_what_is_credibly_lower_and_nothing_else():
    log, good, bad = a_log(), same_for_all([0.1, 0.9], 2_000), same_for_all([0.9, 0.1], 2_000)
    better = off_policy_gate(log.of(good), bad, fit=fit_offer_means)
    worse = off_policy_gate(log.of(bad), good, fit=fit_offer_means)
    same = off_policy_gate(log.of(good), good, fit=fit_offer_means)
    assert (better.passage, worse.passage, same.passage) == ("passes", "refused", "passes")
    assert worse.comparison.difference.low < -0.8 * 0.3 < worse.comparison.difference.high
    assert "is lower than that of the champion" in worse.sentence


def test_without_overlap_the_gate_has_no_verdict_whatever_the_figures():
    log = a_log(150)
    said = off_policy_gate(log.of(same_for_all([1.0, 0.0], 150)), log.chances, fit=fit_offer_means)
    assert (said.passage, said.overlap_permits) == ("no verdict", False)
    assert "the challenger: the log is worth" in said.sentence
    assert no_verdict("there is no log").sentence == "the log gives no verdict: there is no log"


def a_report(log, unit="share", **changes):
    found = evaluate(log, fit=fit_offer_means, n_samples=50)
    given = {
        "policy": "greedy <b>", "release": "7", "reward": "acceptances per choice", "unit": unit, "log": "our own",
        "since": "2026-06-01T00:00:00+00:00", "until": "2026-06-08T00:00:00+00:00",
        "left_out": {"that were drawn again": 3}, "notes": ("One step at a time.",), "evaluation": found, **changes,
    }  # fmt: skip
    return Report(**given)


def told(report, format="md", drawn=()):
    """Cells of Markdown are padded: one space is as good as ten."""
    text = render(document_of(report, drawn), format).decode()
    return re.sub(r" {2,}", " ", text) if format == "md" else text


def test_every_form_says_the_same():
    log = a_log()
    report = a_report(log)
    text, found = told(report), json.loads(told(report, "json"))
    assert "**Higher**\n\n- The value is higher than that of what was logged" in text
    assert "- 3 that were drawn again" in text
    value = found["evaluation"]["estimates"][3]
    assert value["estimator"] == "DR"
    assert f"| DR | {value['value']:.4f} | {value['low']:.4f} … {value['high']:.4f} |" in text
    shown = told(report, "html", pictures(report.evaluation, log.weights, "share"))
    assert "greedy &lt;b&gt;" in shown
    assert "<b>" not in shown.replace("<body>", "")
    assert f'<td class="right">{value["value"]:.4f}</td>' in shown
    assert shown.count("<svg") == 2


def test_amounts_carry_their_currency():
    assert " EUR" in told(a_report(a_log(), unit="EUR"))


def test_what_could_not_be_computed_is_no_zero():
    """Nothing of one row is known of how it varies, and the candidate never shows what was shown."""
    one = Logged(
        offers=("a", "b"), action=np.array([0]), probability=np.array([0.5]), reward=np.array([1.0]),
        chances=np.array([[0.0, 1.0]]),
    )  # fmt: skip
    report = a_report(one, since=None, left_out={})
    assert report.evaluation.verdict == "no verdict"
    snips = report.evaluation.named("SNIPS")
    assert (snips.value, snips.low) == (None, None)
    assert "| SNIPS | – | – | – |" in told(report)
    assert "Nothing." in told(report)
    assert json.loads(told(report, "json"))["evaluation"]["estimates"][2]["value"] is None


@pytest.mark.parametrize("chances", [(0.1, 0.9), (1.0, 0.0)])
def test_pictures_are_drawn_with_and_without_a_verdict(chances):
    log = a_log(100, chances=chances)
    found = evaluate(log, fit=fit_offer_means, n_samples=20)
    drawn = pictures(found, log.weights, "share")
    assert [one.name for one in drawn] == ["estimates", "weights"]
    assert ("(overlap permits no verdict)" in drawn[0].svg) is not found.overlap.permits
    assert "as logged: 0." in drawn[0].alt
