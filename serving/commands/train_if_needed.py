"""`nbo train --if-needed`: for cron, on hosts that share a NBO_HOME; one trains, when it is due, and says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing

import msgspec

from features.facts import Facts
from serving.settings import Settings, load_settings
from training.lease import Holder, Lease, take
from training.needed import Known, Need, Rules, needed, what_is_known


def run_if_needed(train: Callable[[], object], *, as_json: bool) -> int:
    """Calls `train` if it is due and nobody else is at it; prints why, or why not. Exit code 0 either way.

    Whether it is due is asked with the lease in hand: who comes second finds the release that the first made. With
    `as_json` the reasons are the result where nothing was trained, and on stderr beside the training's where it was.
    """
    settings = load_settings()
    lease = take(settings.home.root / "train.lease")
    if isinstance(lease, Holder):
        said = f"{lease.host}, process {lease.pid}, is training since {lease.since}"
        return _done(Need(False, (said,)), as_json=as_json)
    try:
        return _train(settings, lease, train, as_json=as_json)
    finally:
        lease.release()


def _train(settings: Settings, lease: Lease, train: Callable[[], object], *, as_json: bool) -> int:
    if lease.taken_from is not None:
        gone = lease.taken_from
        _tell(f"{gone.host}, process {gone.pid}, which was training since {gone.since}, is gone; its place is taken")
    now = settings.now()
    with closing(Facts(settings.home.facts_db)) as facts:
        known = what_is_known(settings.home, facts, now)
    need = needed(known, rules_of(settings), now)
    if not need.train:
        return _done(need, as_json=as_json)
    for line in (*(f"training, because {reason}" for reason in need.why), *_warnings(known)):
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)
    train()
    if lease.lost:
        _tell("another process took this training's place, as after a sleep of the machine; both made a release")
    return 0


def rules_of(settings: Settings) -> Rules:
    return Rules(
        max_age_days=settings.train_max_age_days,
        new_events=settings.train_new_events,
        on_drift=settings.train_on_drift,
        min_age_hours=settings.train_min_age_hours,
    )


def _warnings(known: Known) -> tuple[str, ...]:
    if not known.n_not_in_lake:
        return ()
    return (f"{known.n_not_in_lake:,} of the new events are not in the lake yet: run `nbo features build` first",)


def _done(need: Need, *, as_json: bool) -> int:
    if as_json:
        print(msgspec.json.encode({"trained": False, "why": need.why}).decode())
    else:
        print(f"not training: {'; '.join(need.why)}")
    return 0


def _tell(text: str) -> None:
    print(f"nbo: {text}", file=sys.stderr, flush=True)
