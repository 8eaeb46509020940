"""Published figures of a real log, and the refusal that must come; `make prove-experiments` has the rest."""

from __future__ import annotations

import pytest

from bench.prove_offpolicy import random_to_thompson, thompson_to_random
from experiments.offpolicy.diagnostics import overlap
from experiments.offpolicy.evaluation import evaluate
from experiments.offpolicy.reward_models import fit_offer_means


@pytest.mark.real_data
def test_open_bandit_says_what_was_published(shared_data):
    """Saito et al. (2021), small sample, Random to Bernoulli TS: IPW 0.004553; measured on policy 0.0042."""
    log, truth = random_to_thompson(shared_data / "open_bandit_sample")
    found = evaluate(log, fit=fit_offer_means, n_samples=100)
    assert found.named("IPS").value == pytest.approx(0.004553, abs=5e-7)
    assert truth == 0.0042
    assert found.overlap.permits
    assert found.named("DR").low < truth < found.named("DR").high
    assert found.overlap.effective_rows == pytest.approx(
        1641, rel=0.002
    )  # of the same protocol, made without this code


@pytest.mark.real_data
def test_the_womens_campaign_is_refused(shared_data):
    """One click has the weight 21,739; the log is worth 2 rows."""
    found = overlap(thompson_to_random(shared_data / "open_bandit_sample", "women"))
    assert (round(found.largest_weight), round(found.effective_rows)) == (21_739, 2)
    assert len(found.refusals) == 3
