"""One look at the log: read the window, ask every check, say what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from features.compute import current_features
from features.errors import NboError
from features.events import US_PER_DAY, from_us, parse_time, to_us
from features.facts import Facts
from features.home import Home
from training.dataset import Log, open_log
from training.monitoring.checks import CHECKS
from training.monitoring.kept import Watched
from training.monitoring.line import Line, unknown
from training.monitoring.reference import DAYS, features_before
from training.monitoring.seen import Seen, longest_window_us, read_decisions, read_features, read_outcomes, shown_of
from training.monitoring.thresholds import Thresholds
from training.scorers import Release, load_champion

Progress = Callable[[str], None]


def look(
    home: Home,
    facts: Facts,
    *,
    since: datetime,
    until: datetime,
    levels: Sequence[Any] = (),
    progress: Progress = lambda what: None,
) -> Seen:
    """What the lake holds of [since, until), and what it is judged by. `NotTrainable` of an empty lake.

    `levels` are (offer id, what it has used), of offers with inventory or a budget.
    """
    since_us, until_us = to_us(since), to_us(until)
    progress("reading decisions")
    log = open_log(home, facts, until_us)
    settings, features, catalogue = facts.data_settings(), current_features(facts), facts.catalogue()
    champion = load_champion(home.releases)
    made = read_decisions(log, since_us - longest_window_us(settings), until_us)
    showed = shown_of(made)
    progress("outcomes")
    outcomes = read_outcomes(log, catalogue.offers, settings, showed)
    decisions = made[made["us"] >= since_us].reset_index(drop=True)
    shown = showed[showed["us"] >= since_us].reset_index(drop=True)
    progress("features before the training")
    first_us, first = _first_days(log, champion, since_us, until_us)
    reference: pd.DataFrame | str = "no release serves yet"
    if champion is not None:
        trained_us = to_us(parse_time(champion.manifest["as_of"], "as_of"))
        reference = features_before(home, facts, log, trained_us, settings.churn.activity)
    return Seen(
        since_us=since_us,
        until_us=until_us,
        decisions=decisions,
        shown=shown,
        features=read_features(log, decisions, features),
        outcomes=outcomes,
        catalogue=catalogue,
        feature_set=features,
        champion=champion,
        first_us=first_us,
        first=first,
        first_shown=shown_of(first),
        reference=reference,
        log_age_days=_ages(log, champion, until_us),
        levels=levels,
    )


def _ages(log: Log, champion: Release | None, until_us: int) -> tuple[float, float]:
    """How old the log was in the middle of the reference's days, and is now."""
    first = log.frame("SELECT min(us) AS us FROM events")["us"]
    if champion is None or first.isna().any():
        return 0.0, 0.0
    trained_us = to_us(parse_time(champion.manifest["as_of"], "as_of"))
    first_us = int(first[0])
    then_us = max(trained_us - DAYS * US_PER_DAY // 2, (first_us + trained_us) // 2)
    return max(then_us - first_us, 0) / US_PER_DAY, max(until_us - first_us, 0) / US_PER_DAY


def _first_days(log: Log, champion: Release | None, since_us: int, until_us: int) -> tuple[int | None, pd.DataFrame]:
    """When the champion decided first, and what it did from then on, for as long as the window, before the window."""
    nothing = read_decisions(log, 0, 0)
    if champion is None or not log.has_decisions:
        return None, nothing
    found = log.frame(
        "SELECT min(epoch_us(decided_at)) AS us FROM decisions WHERE payload ->> '$.model_versions.release' = $1",
        champion.number,
    )["us"]
    if found.isna().any():
        return None, nothing
    first_us = int(found[0])
    return first_us, read_decisions(log, first_us, min(first_us + until_us - since_us, since_us), champion.number)


def judged(seen: Seen, held: Thresholds, progress: Progress = lambda what: None) -> tuple[Line, ...]:
    """Every check's lines; a check that cannot answer says why instead of ending the others."""
    lines: list[Line] = []
    for name, check in CHECKS.items():
        progress(name)
        try:
            lines.extend(check(seen, held))
        except NboError as error:
            lines.append(unknown(name, "", str(error)))
    return tuple(lines)


def watched(seen: Seen, lines: tuple[Line, ...], at: datetime) -> Watched:
    return Watched(
        at=at,
        since=from_us(seen.since_us),
        until=from_us(seen.until_us),
        release=None if seen.champion is None else seen.champion.number,
        n_decisions=len(seen.decisions),
        n_outcomes=len(seen.outcomes),
        lines=lines,
    )


def window(text: str, now: datetime) -> datetime:
    """The instant that `7d`, `12h` or an RFC 3339 time means. `BadInput` names `since`."""
    from features.errors import BadEvent, BadInput

    try:
        if text[-1:] in ("d", "h") and float(text[:-1]) > 0:
            return now - timedelta(**{"days" if text.endswith("d") else "hours": float(text[:-1])})
        found = parse_time(text, "since")
    except (ValueError, OverflowError, BadEvent):
        raise BadInput(f"since is {text!r}, expected such as 7d, 12h or 2026-03-01T00:00:00Z", "since") from None
    if found >= now:
        raise BadInput(f"since is {text!r}, which is not before now, {now.isoformat()}", "since")
    return found
