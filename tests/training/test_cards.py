"""Model cards say what the run keeps, and nothing that it does not."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.cards import ABOUT, DESCRIPTION, card, description, interval, table
from training.tracking import MODELS, Data, Logged

DATA = Data("events", "ab12" * 16, "/home/lake", 12_345, ("2026-01-01T00:00:00+00:00", "2026-03-04T12:00:00+00:00"))
COMMAND = "nbo train all --seed 3"


def kept(**changed) -> Logged:
    fields = {
        "params": {"chosen": "logistic", "baseline": "recency", "calibration": "sigmoid", "horizon_days": 30},
        "metrics": {
            "auc": 0.8, "auc_low": 0.75, "auc_high": 0.85, "baseline_auc": 0.7, "auc_gain": 0.1, "auc_gain_low": 0.05,
            "auc_gain_high": 0.15, "ece": 0.02, "n_train": 1000.0, "rate_train": 0.25, "n_test": 400.0,
            "canary_shuffled_auc": 0.5, "canary_shuffled_auc_low": 0.45, "canary_shuffled_auc_high": 0.55,
            "canary_strongest_column_auc": 0.6, "canary_rows_made_again": 200.0,
        },
        "tags": {"verdict": "beats", "seed": "3", "as_of_us": "1772625600000000"},
        "files": {},
        "tables": {
            "candidates": pd.DataFrame({"model": ["recency", "logistic"], "validation_log_loss": [0.5, 0.4]}),
            "slices": pd.DataFrame({"slice": ["tier"], "value": ["gold | silver"], "auc": [0.81]}),
            "calibration": pd.DataFrame({"calibration": ["none", "sigmoid"], "log_loss": [0.41, 0.39]}),
            "reliability": pd.DataFrame({"mean_p": [0.1], "rate": [0.12]}),
            "canaries": pd.DataFrame({"column": ["customer.visits"], "auc": [0.6]}),
            "horizons": pd.DataFrame({"horizon_days": [30], "auc": [0.8]}),
            "notes": pd.DataFrame({"note": ["The horizon of 90 days is left out: too short."]}),
        },
    }  # fmt: skip
    return Logged(**{**fields, **changed})


def parts(text: str) -> dict[str, str]:
    found = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return {"": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}


def test_a_card_has_every_part_with_what_the_run_found():
    found = parts(card("churn", kept(), DATA, COMMAND, "abc123"))
    assert found[""].startswith("# Churn: logistic\n")
    assert "for 30 days; its baseline is `recency`" in found[""]
    assert "12,345 events from 2026-01-01T00:00:00+00:00 to 2026-03-04T12:00:00+00:00" in found["Data"]
    assert DATA.digest in found["Data"]
    assert "1,000 customers at snapshot dates to learn from (25.00% positive)" in found["Data"]
    assert "| logistic | 0.4 |" in found["How it was chosen"]
    assert "| AUC ↑ | 0.8000 [0.7500, 0.8500] | 0.7000 | +0.1000 [+0.0500, +0.1500] |" in found["How good it is"]
    assert "| ECE ↓ | 0.0200 |  |  |" in found["How good it is"]
    assert "| 30 | 0.8 |" in found["By horizon"]
    assert "| tier | gold \\| silver | 0.81 |" in found["By slice"]
    assert "A map: sigmoid." in found["Calibration"]
    assert "200 rows were made again" in found["Canaries"]
    assert "The horizon of 90 days is left out: too short." in found["Limits"]
    assert found["Intended use"].strip() == ABOUT["churn"].use
    assert f"$ {COMMAND}" in found["How to reproduce"]
    assert "as of 2026-03-04T12:00:00+00:00 with seed 3, by the program at `abc123`" in found["How to reproduce"]


def test_what_a_run_does_not_keep_is_not_in_its_card():
    bare = Logged(params={"chosen": "popularity", "baseline": "popularity"}, metrics={}, tags={}, files={})
    found = parts(card("recommender", bare, DATA, COMMAND, "abc123"))
    assert set(found) == {"", "Intended use", "Data", "Limits", "How to reproduce"}
    assert not re.search(r"nan|None", "".join(found.values()))


@pytest.mark.parametrize(
    ("verdict", "said"), [("lost", "do not let it serve"), ("undecided", "not shown to be better")]
)
def test_a_model_that_does_not_beat_its_baseline_says_so_first_among_its_limits(verdict, said):
    limits = parts(card("churn", kept(tags={"verdict": verdict}), DATA, COMMAND, "x"))["Limits"]
    assert said in limits.strip().splitlines()[0]


def test_candidates_that_read_the_test_part_are_named():
    candidates = pd.DataFrame({"model": ["ease", "popularity", "ease"], "part": ["validation", "validation", "test"]})
    found = card("recommender", kept(tables={"candidates": candidates}), DATA, COMMAND, "x")
    assert "of what it is compared with: `ease`." in found


def test_there_is_a_card_for_every_model():
    assert set(ABOUT) == set(MODELS)


def test_an_interval_is_said_only_where_there_is_one():
    assert interval({"a": 0.5}, "a") == "0.5000"
    assert interval({"a": 0.5, "a_low": 0.25, "a_high": 0.75}, "a", signed=True) == "+0.5000 [+0.2500, +0.7500]"


VALUES = st.one_of(st.none(), st.floats(), st.integers(), st.text(), st.just("a|b\nc"), st.booleans())


@given(st.lists(st.tuples(VALUES, VALUES), max_size=60))
def test_every_line_of_a_table_has_as_many_cells_as_its_head(rows):
    frame = pd.DataFrame({"a": [a for a, _ in rows], "b|c": [b for _, b in rows]}, dtype=object)
    lines = [line for line in table(frame).split("\n") if line.startswith("|")]
    assert len(lines) == (0 if not rows else 2 + min(len(rows), 40))
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} <= {3}


def test_a_long_table_says_how_many_rows_there_are():
    assert table(pd.DataFrame({"n": np.arange(50)})).endswith("The first 40 of 50 rows.")


def test_a_figure_s_bounds_stand_beside_it():
    frame = pd.DataFrame({"value": ["a"], "auc": [0.5], "auc_low": [0.25], "auc_high": [0.75], "too_low": [True]})
    assert table(frame).splitlines() == [
        "| value | auc | too_low |", "| --- | --- | --- |", "| a | 0.5 [0.25, 0.75] | True |",
    ]  # fmt: skip


def test_a_description_fits_and_says_what_it_left_out():
    said = []
    for n in range(10, 40):
        slices = pd.DataFrame(
            {"slice": ["offer"] * n, "value": [f"offer-{i:03}-with-a-long-name" * 4 for i in range(n)]}
        )
        found = description(card("churn", kept(tables={**kept().tables, "slices": slices}), DATA, COMMAND, "x"))
        assert len(found) <= DESCRIPTION
        assert "## Limits" in found
        more = re.search(r"card\.md says more: (.*)\.\n$", found)
        said.append(more[1] if more else "")
        assert ("## By slice" in found) == ("by slice" not in said[-1])
    assert list(dict.fromkeys(said)) == ["", "canaries", "canaries, by slice"]
