"""Another system's log: read by a recipe, refused by column and row, and judged with what was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.offpolicy.evaluation import evaluate
from experiments.offpolicy.recipe import LogRecipe, read_log, read_recipe
from features.errors import BadInput, BadRecipe
from serving.evaluation.outside import chances_over, outside_candidate
from serving.policies.outlook import Tuning

TUNING = {"epsilon": 0.0, "temperature": 0.1, "draws": 10, "new_offer_share": 0.05}
TRUTH = {"a": 0.2, "b": 0.5, "c": 0.3}  # of phones; of tablets "c" earns 0.8


def banners(n=6_000, seed=0):
    rng = np.random.default_rng(seed)
    device = rng.choice(["phone", "tablet"], n)
    action = rng.choice(list(TRUTH), n, p=[0.5, 0.3, 0.2])
    p = np.array([0.8 if (d, a) == ("tablet", "c") else TRUTH[a] for d, a in zip(device, action, strict=True)])
    return pd.DataFrame({
        "action": action, "probability": pd.Series(action).map({"a": 0.5, "b": 0.3, "c": 0.2}),
        "reward": (rng.random(n) < p).astype(int), "context_device": device, "visitor": np.arange(n) // 2,
    })  # fmt: skip


def written(tmp_path, frame, name="log.csv"):
    path = tmp_path / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
def test_csv_and_parquet_are_read_alike(tmp_path, name):
    found = read_log(written(tmp_path, banners(50), name), LogRecipe(unit="visitor"))
    frame = banners(50)
    assert found.offers == ("a", "b", "c")
    assert [found.offers[i] for i in found.action] == frame["action"].tolist()
    assert found.probability.tolist() == frame["probability"].tolist()
    assert found.context.tolist() == [[float(d == "phone"), float(d == "tablet")] for d in frame["context_device"]]
    assert pd.Series(found.unit).groupby(frame["visitor"]).nunique().eq(1).all()
    assert len(set(found.unit)) == frame["visitor"].nunique()


def test_a_policy_learns_from_the_first_half_and_is_judged_on_the_second(tmp_path):
    """Greedy shows "b" on phones (0.5) and "c" on tablets (0.8): 0.65 on average, as planted."""
    found = evaluate(outside_candidate(read_log(written(tmp_path, banners()), LogRecipe()), "greedy", TUNING))
    assert found.n_rows == 3_000
    assert found.verdict == "higher"
    dr = found.named("DR")
    assert abs(dr.value - 0.65) < 4 * (dr.high - dr.low) / (2 * 1.96)


def test_chances_that_stand_in_the_log_are_taken_as_they_are(tmp_path):
    frame = banners(4_000).assign(chance_a=0.0, chance_b=1.0, chance_c=0.0)
    log = outside_candidate(read_log(written(tmp_path, frame), LogRecipe(chances="chance_*")), "given", TUNING)
    assert len(log) == 4_000
    assert (log.chances == [0.0, 1.0, 0.0]).all()
    with pytest.raises(BadInput, match="not in the log"):
        outside_candidate(read_log(written(tmp_path, frame), LogRecipe()), "given", TUNING)


def test_rows_are_taken_in_the_order_of_a_column(tmp_path):
    frame = banners(20).assign(at=range(20, 0, -1))
    found = read_log(written(tmp_path, frame), LogRecipe(order="at"))
    assert found.reward.tolist() == frame["reward"].tolist()[::-1]


def test_policies_over_known_scores_say_what_their_formulas_say():
    scores = np.array([[0.0, 1.0, 1.0], [3.0, 1.0, 0.0]])
    greedy = chances_over("epsilon_greedy", scores, Tuning(epsilon=0.3, new_offer_share=0.0))
    assert greedy == pytest.approx(np.array([[0.1, 0.45, 0.45], [0.8, 0.1, 0.1]]))  # ties share; by hand


def with_chances(frame, at, last):
    """A candidate's 0.5, 0.3, 0.2, but in one row, counted from 0."""
    return frame.assign(p_a=0.5, p_b=0.3, p_c=[last if i == at else 0.2 for i in range(len(frame))])


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_rows_without_a_unit_are_units_of_their_own_and_counted(tmp_path, name):
    """Six rows: two of "a", one of a customer who is called None, three of nobody knows whom; by hand 5 units."""
    frame = banners(6).assign(visitor=["a", None, "a", "None", None, ""])
    found = read_log(written(tmp_path, frame, name), LogRecipe(unit="visitor"))
    assert found.n_without_unit == 3
    assert found.unit[0] == found.unit[2]
    assert len(set(found.unit)) == 5
    numbers = banners(4).assign(visitor=[1.0, None, 1.0, None])
    assert read_log(written(tmp_path, numbers, name), LogRecipe(unit="visitor")).n_without_unit == 2


def test_a_value_that_is_no_number_is_found_far_down_the_file(tmp_path):
    """Further than the rows from which readers of CSV guess types (20,480 in DuckDB)."""
    frame = banners(30_000)
    frame["reward"] = [*frame["reward"][:25_000], "n/a", *frame["reward"][25_001:]]
    with pytest.raises(BadInput, match=r"column 'reward' is 'n/a' in row 25001 .1 of 30,000 rows."):
        read_log(written(tmp_path, frame), LogRecipe())


@pytest.mark.parametrize(
    ("change", "recipe", "field", "said"),
    [
        (lambda f: f.drop(columns="probability"), LogRecipe(), "probability", "no column 'probability'; it has action"),
        (lambda f: f.assign(probability=[0.5, 0.0, *f["probability"][2:]]), LogRecipe(), "probability", "0 in row 2"),
        (lambda f: f.assign(probability=[None, *f["probability"][1:]]), LogRecipe(), "probability", "missing in row 1"),
        (lambda f: f.assign(reward=[*f["reward"][:-1], None]), LogRecipe(), "reward", "missing in row 30"),
        (lambda f: f.assign(reward="lots"), LogRecipe(), "reward", "'lots' in row 1 .30 of 30"),
        (lambda f: f.assign(reward=[*map(str, f["reward"][:5]), "yes", *map(str, f["reward"][6:])]), LogRecipe(),
         "reward", "column 'reward' is 'yes' in row 6 .1 of 30 rows., expected a number"),
        (lambda f: f.assign(probability=[*f["probability"][:10], 0.0, *f["probability"][11:]], at=range(30, 0, -1)),
         LogRecipe(order="at"), "probability", "column 'probability' is 0 in row 11 .1 of 30"),
        (lambda f: with_chances(f, 5, 0.9), LogRecipe(chances="p_*"), "p_*",
         "the columns p_a, p_b, p_c sum to 1.7 in row 6 .1 of 30 rows., expected 1"),
        (lambda f: with_chances(f, 7, -0.1), LogRecipe(chances="p_*"), "p_c", "column 'p_c' is -0.1 in row 8"),
        (lambda f: with_chances(f, 7, None), LogRecipe(chances="p_*"), "p_c", "column 'p_c' is missing in row 8"),
        (lambda f: f.assign(action=[None, *f["action"][1:]]), LogRecipe(), "action", "missing in row 1"),
        (lambda f: f, LogRecipe(context=("age",)), "age", "no column 'age'"),
        (lambda f: f, LogRecipe(order="when"), "when", "no column 'when'"),
        (lambda f: f, LogRecipe(chances="p_*"), "p_*", "no column of chances 'p_a'"),
        (lambda f: f.head(0), LogRecipe(), "log", "no row"),
        (lambda f: f.assign(context_id=[f"v{i}" for i in range(30)]), LogRecipe(), None, None),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_column_and_row(tmp_path, change, recipe, field, said):
    path = written(tmp_path, change(banners(30)))
    if said is None:  # thirty different texts still become columns
        assert read_log(path, recipe).context.shape == (30, 32)
        return
    with pytest.raises(BadInput, match=said) as refused:
        read_log(path, recipe)
    assert refused.value.field == field


def test_texts_that_name_everybody_are_no_context(tmp_path):
    frame = banners(200).assign(context_id=[f"v{i}" for i in range(200)])
    with pytest.raises(BadInput, match="200 different texts"):
        read_log(written(tmp_path, frame), LogRecipe())


@pytest.mark.parametrize(
    ("text", "said"),
    [("action = 3", "action"), ("acton = 'x'", "acton"), ("action =", "not valid TOML"), (None, "cannot be read")],
)
def test_a_recipe_that_cannot_be_read_names_its_key(tmp_path, text, said):
    path = tmp_path / "recipe.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadRecipe, match=said):
        read_recipe(path)


def test_a_log_must_be_a_file_of_a_known_kind(tmp_path):
    for name, said in (("log.xlsx", "expected a .csv"), ("gone.csv", "there is no log")):
        with pytest.raises(BadInput, match=said):
            read_log(tmp_path / name, LogRecipe())
