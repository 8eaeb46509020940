"""What policies would earn in Starbucks' app, from a log in which offers were sent at random to 17,000 members.

Six waves; in each a member got one of ten offers (chance .0748 each) or none (.252). An offer is completed when its
spend is reached while it is valid; a completion belongs to the oldest receipt that is still open. The last wave is
watched for 138 hours, so all are. Policies learn from earlier waves, or from other members, than they are judged on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.proof import Proof, shared_data
from experiments.offpolicy.estimators import ESTIMATORS, Parts
from experiments.offpolicy.evaluation import Comparison, compare
from experiments.offpolicy.logged import Logged, Numbers, Rows, same_for_all
from experiments.offpolicy.reward_models import Predict, Shown, cross_fitted, fit_boosted_trees
from features.attribution import NEVER, Touches, match
from features.data_settings import Attribution

WAVE_HOURS = (0, 168, 336, 408, 504, 576)
WATCHED_HOURS = 138
OFFERED, NOT_OFFERED = 0.0748, 0.252  # chances in every wave
US_PER_HOUR = 3_600_000_000
NONE = 10  # the action of sending nothing
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Waves:
    """One row per member and wave, members within waves."""

    offers: tuple[str, ...]  # ten, in words, then none
    member: NDArray[np.int64]
    wave: NDArray[np.int64]  # from 1
    action: NDArray[np.int64]
    context: Numbers  # (n, d) known before the wave
    completed: Numbers  # 0 or 1, within the watched hours
    revenue: Numbers  # $ spent in the watched hours, less the reward paid

    def log(self, rows: Mask, reward: Numbers, chances: Numbers) -> Logged:
        propensity = np.r_[np.full(NONE, OFFERED), NOT_OFFERED]
        return Logged(
            offers=self.offers,
            action=self.action[rows],
            probability=propensity[self.action[rows]],
            reward=reward[rows],
            chances=chances,
            propensity=same_for_all(propensity, int(rows.sum())),
            context=self.context[rows],
            unit=self.member[rows],
        )


def starbucks(proof: Proof) -> None:
    """The best single offer, the acceptance policy and an uplift policy, by time and by customer."""
    waves = read_waves(shared_data() / "starbucks_offers")
    shares = np.bincount(waves.action, minlength=NONE + 1) / len(waves.action)
    uniform = abs(shares[:NONE] - OFFERED).max() < 0.001 and abs(shares[NONE] - NOT_OFFERED) < 0.002
    proof.line(bool(uniform), "each of ten offers was sent to .0748 of members and none to .252, in 1 in 1,000")
    rates = [waves.completed[(waves.wave == k) & (waves.action != NONE)].mean() for k in range(1, 7)]
    proof.line(
        rates[-1] > rates[0] + 0.04, f"the base rate drifts: {', '.join(f'{rate:.3f}' for rate in rates)} by wave"
    )
    by_time = waves.wave >= 4, [(waves.wave <= 3, waves.wave >= 4)]
    half = np.random.default_rng(1).permutation(int(waves.member.max()) + 1)[waves.member] % 2 == 0
    later = waves.wave >= 2
    by_customer = later, [(half, ~half & later), (~half, half & later)]
    for title, (judged, parts) in (("waves 4–6, learned from waves 1–3", by_time),
                                   ("waves 2–6, learned from other members", by_customer)):  # fmt: skip
        _judge(proof, waves, title, judged, parts)


def _judge(proof: Proof, waves: Waves, title: str, judged: Mask, parts: list[tuple[Mask, Mask]]) -> None:
    """Each part is (rows to learn from, rows to judge); the judged rows of all parts are `judged`."""
    wanted = {name: np.zeros((len(judged), NONE + 1)) for name in POLICIES_TRIED}
    for learn, test in parts:
        for name, choose in POLICIES_TRIED.items():
            wanted[name][np.flatnonzero(test), choose(waves, learn, test)] = 1.0
    beside = {
        "as logged": same_for_all(np.r_[np.full(NONE, OFFERED), NOT_OFFERED], int(judged.sum())),
        **{name: table[judged] for name, table in wanted.items()},
    }
    for earned, reward, scale in (("completed, %", waves.completed, 100.0), ("net revenue, $", waves.revenue, 1.0)):
        single = BEST_SINGLE[earned]
        log = waves.log(judged, reward, beside[single])
        guessed = cross_fitted(log, fit_plane)
        found = {
            name: compare(log.of(chances), beside[single], guessed=guessed, n_samples=200)
            for name, chances in beside.items()
            if name == single or name not in BEST_SINGLE.values()
        }
        ips = {name: ESTIMATORS["IPS"](Parts.of(log.of(beside[name]), guessed)).terms.value for name in found}
        snips = {name: ESTIMATORS["SNIPS"](Parts.of(log.of(beside[name]), guessed)).terms.value for name in found}
        proof.table(
            (f"{title}: {earned}", "IPS", "SNIPS", "DR", "95 %", f"against {single}", "by IPS"),
            [
                (
                    name, f"{ips[name] * scale:.2f}", f"{snips[name] * scale:.2f}",
                    f"{one.candidate.value * scale:.2f}",
                    f"{one.candidate.low * scale:.2f} … {one.candidate.high * scale:.2f}",
                    _signed(one, scale), f"{(ips[name] - ips[single]) * scale:+.2f}",
                )
                for name, one in found.items()
            ],
        )  # fmt: skip
        proof.line(all(one.overlap.permits for one in found.values()), f"{title}, {earned}: overlap permits a verdict")
        for name, one in found.items():
            if name != single:
                said = f"{title}, {earned}: {name} does not beat {single}: {one.verdict}, {_signed(one, scale)}"
                proof.line(one.verdict in ("lower", "no difference seen"), said)
        _ips_alone_misleads(proof, title, earned, waves, judged, beside, guessed, scale)


def _ips_alone_misleads(
    proof: Proof,
    title: str,
    earned: str,
    waves: Waves,
    judged: Mask,
    beside: dict[str, Numbers],
    guessed: Numbers,
    scale: float,
) -> None:
    """Everybody gets ten more: no policy is better or worse for it. IPS says that one is."""
    reward = waves.completed if earned.startswith("completed") else waves.revenue
    single, name = BEST_SINGLE[earned], "acceptance policy"
    moved: dict[str, float] = {}
    for estimator in ("IPS", "DR"):
        difference = []
        for more in (0.0, 10.0 / scale):
            log = waves.log(judged, reward + more, beside[name])
            value = [
                ESTIMATORS[estimator](Parts.of(log.of(beside[one]), guessed + more)).terms.value
                for one in (name, single)
            ]
            difference.append(value[0] - value[1])
        moved[estimator] = abs(difference[1] - difference[0]) * scale
    proof.line(
        moved["DR"] < 1e-9 < moved["IPS"],
        f"{title}: 10 more for everybody moves {name} against {single} by {moved['IPS']:.2f} in IPS, not at all in DR",
    )


def _signed(one: Comparison, scale: float) -> str:
    found = one.difference
    return f"{found.value * scale:+.2f} [{found.low * scale:+.2f}, {found.high * scale:+.2f}]"


# Policies: what each sends to the rows to judge, learned from the others


def best_single(reward: str) -> Callable[[Waves, Mask, Mask], Rows]:
    """The offer with the best mean, to everybody."""

    def choose(waves: Waves, learn: Mask, test: Mask) -> Rows:
        earned, sent = getattr(waves, reward)[learn], waves.action[learn]
        means = np.bincount(sent, weights=earned, minlength=NONE + 1) / np.bincount(sent, minlength=NONE + 1)
        return np.full(int(test.sum()), int(means[:NONE].argmax()))

    return choose


def acceptance(waves: Waves, learn: Mask, test: Mask) -> Rows:
    """The offer that each is likeliest to complete, by boosted trees."""
    sent = learn & (waves.action != NONE)
    predict = fit_boosted_trees(Shown(waves.context[sent], None, waves.action[sent], waves.completed[sent], NONE))
    return predict(waves.context[test], None).argmax(axis=1)


def uplift(waves: Waves, learn: Mask, test: Mask) -> Rows:
    """What each spends most after, over being sent nothing: boosted trees per offer; nothing where that is best."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    expected = np.empty((int(test.sum()), NONE + 1))
    for action in range(NONE + 1):
        at = learn & (waves.action == action)
        model = HistGradientBoostingRegressor(
            max_iter=60, learning_rate=0.05, max_depth=3, min_samples_leaf=50, random_state=0
        )
        expected[:, action] = model.fit(waves.context[at], waves.revenue[at]).predict(waves.context[test])
    return expected.argmax(axis=1)


POLICIES_TRIED: dict[str, Callable[[Waves, Mask, Mask], Rows]] = {
    "best single by completion": best_single("completed"),
    "best single by net revenue": best_single("revenue"),
    "acceptance policy": acceptance,
    "uplift policy": uplift,
}
BEST_SINGLE = {"completed, %": "best single by completion", "net revenue, $": "best single by net revenue"}


def fit_plane(shown: Shown) -> Predict:
    """A plane through what each offer earned, by ridge regression: quick, and DR is unbiased whatever it says."""
    middle = np.nanmedian(shown.context, axis=0)
    spread = np.nanstd(shown.context, axis=0) + 1e-9

    def columns(context: Numbers) -> Numbers:
        missing = np.isnan(context[:, :2])
        filled = np.where(np.isnan(context), middle, context)
        return np.column_stack([np.ones(len(context)), np.clip((filled - middle) / spread, -4.0, 4.0), missing])

    planes = []
    for offer in range(shown.n_offers):
        at = shown.action == offer
        x = columns(shown.context[at])
        planes.append(np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ shown.outcome[at]))
    return lambda context, estimate: columns(context) @ np.array(planes).T


# Reading


def read_waves(folder: Path) -> Waves:
    """From the files as published, plain or gzipped."""
    import duckdb

    db = duckdb.connect(config={"threads": 1})
    db.execute("SET enable_progress_bar = false")
    read = "read_json('{}', format = 'newline_delimited', columns = {})"
    offers = db.sql(
        "SELECT id, offer_type, difficulty, reward, duration FROM "
        + read.format(folder / "portfolio.json.gz", "{id: 'VARCHAR', offer_type: 'VARCHAR', difficulty: 'INTEGER', "
                      "reward: 'DOUBLE', duration: 'DOUBLE'}") + " ORDER BY difficulty, reward, duration"
    ).df()  # fmt: skip
    people = db.sql(
        "SELECT id, CASE WHEN age <> 118 THEN age END AS age, income, gender, "
        "strptime(became_member_on, '%Y%m%d')::DATE - DATE '2013-01-01' AS since FROM "
        + read.format(folder / "profile.json.gz", "{id: 'VARCHAR', age: 'INTEGER', income: 'DOUBLE', "
                      "gender: 'VARCHAR', became_member_on: 'VARCHAR'}") + " ORDER BY id"
    ).df()  # fmt: skip
    events = db.sql(
        """SELECT person, event, time, coalesce(value ->> '$."offer id"', value ->> '$.offer_id') AS offer_id, """
        "coalesce((value ->> '$.amount')::DOUBLE, 0) AS amount FROM "
        + read.format(folder / "transcript.json.gz", "{person: 'VARCHAR', event: 'VARCHAR', value: 'JSON', "
                      "time: 'INTEGER'}") + " ORDER BY time, person, event, offer_id"
    ).df()  # fmt: skip
    member = events["person"].map({name: i for i, name in enumerate(people["id"])}).to_numpy(np.int64)
    offer = events["offer_id"].map({name: i for i, name in enumerate(offers["id"])}).fillna(-1).to_numpy(np.int64)
    kind, hour = events["event"].to_numpy(), events["time"].to_numpy(np.int64)
    n, n_waves = len(people), len(WAVE_HOURS)
    wave_of = {at: k for k, at in enumerate(WAVE_HOURS)}
    received, done = kind == "offer received", kind == "offer completed"
    found = match(
        _touches(member, offer, hour, received),
        _touches(member, offer, hour, done),
        (offers["duration"].to_numpy() * 24 * US_PER_HOUR).astype(np.int64),
        Attribution(matching="fifo"),
    )
    after = (found - hour[received] * US_PER_HOUR) / US_PER_HOUR
    completed = (found != NEVER) & (after <= WATCHED_HOURS)
    row = np.array([wave_of[at] for at in hour[received].tolist()]) * n + member[received]
    action = np.full(n * n_waves, NONE)
    action[row] = offer[received]
    took = np.zeros(n * n_waves)
    took[row] = completed
    paid = np.zeros(n * n_waves)
    paid[row] = completed * offers["reward"].to_numpy()[offer[received]]
    spent, context = [], []
    bought, viewed = kind == "transaction", kind == "offer viewed"
    amount = events["amount"].to_numpy(np.float64)
    known = np.column_stack([
        people["age"].to_numpy(np.float64), people["income"].to_numpy(np.float64), people["since"].to_numpy(np.float64),
        *((people["gender"] == one).to_numpy(np.float64) for one in ("F", "M", "O")),
    ])  # fmt: skip
    for at in WAVE_HOURS:
        in_window = bought & (hour >= at) & (hour < at + WATCHED_HOURS)
        spent.append(np.bincount(member[in_window], weights=amount[in_window], minlength=n))
        past = hour < at
        counts = [np.bincount(member[past & one], minlength=n) for one in (bought, viewed, done, received)]
        total = np.bincount(member[past & bought], weights=amount[past & bought], minlength=n)
        last_week = past & bought & (hour >= at - 168)
        recent = np.bincount(member[last_week], weights=amount[last_week], minlength=n)
        context.append(np.column_stack([known, *counts, total, recent]))
    words = [f"{one.offer_type} {one.difficulty}/{one.reward:g}/{one.duration:g}d" for one in offers.itertuples()]
    return Waves(
        offers=(*words, "nothing"),
        member=np.tile(np.arange(n), n_waves),
        wave=np.repeat(np.arange(1, n_waves + 1), n),
        action=action,
        context=np.concatenate(context),
        completed=took,
        revenue=np.concatenate(spent) - paid,
    )


def _touches(member: Rows, offer: Rows, hour: Rows, rows: Mask) -> Touches:
    return Touches(member[rows], offer[rows], np.full(int(rows.sum()), -1), hour[rows] * US_PER_HOUR)
