"""Settings of a deployment: read once at the door, from `nbo.toml` and the environment, and passed down."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from features.errors import BadEvent, BadSettings
from features.events import parse_time
from features.home import Home

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its default; the metadata name its place in `nbo.toml`. Variables are `NBO_` and the name."""

    home: Home
    as_of: datetime | None = field(default=None, metadata={"toml": "clock.as_of"})  # None: the real time
    policy: str = field(default="epsilon_greedy", metadata={"toml": "decision.policy"})
    epsilon: float = field(default=0.05, metadata={"toml": "decision.epsilon"})  # share drawn at random, [0, 1]
    expires_after_s: float = field(default=1800.0, metadata={"toml": "decision.expires_after_s"})
    temperature: float = field(default=0.1, metadata={"toml": "decision.temperature"})  # of softmax
    draws: int = field(default=100, metadata={"toml": "decision.draws"})  # of Thompson sampling, per rank
    new_offer_share: float = field(default=0.05, metadata={"toml": "decision.new_offer_share"})  # of draws, [0, 1]
    new_offer_impressions: int = field(default=200, metadata={"toml": "decision.new_offer_impressions"})  # new below it
    shortlist: int = field(default=2000, metadata={"toml": "decision.shortlist"})  # offers of one draw, at most
    prior_strength: float = field(default=20.0, metadata={"toml": "learning.prior_strength"})  # expected acceptances
    segment_by: str = field(default="channel", metadata={"toml": "learning.segment_by"})  # a feature, or "channel"
    customer_value: str = field(default="", metadata={"toml": "retention.customer_value"})  # see `customer_worth`
    save_rate: float = field(default=0.1, metadata={"toml": "retention.save_rate"})  # of churners by an offer, [0, 1]
    holdout: float = field(default=0.0, metadata={"toml": "experiments.holdout"})  # share of customers, [0, 1)
    shadow_share: float = field(default=0.1, metadata={"toml": "experiments.shadow_share"})  # of decisions, [0, 1]
    time_zone: str = field(default="UTC", metadata={"toml": "clock.time_zone"})  # of budgets, and customers without
    durable_decisions: bool = field(default=False, metadata={"toml": "decision.durable"})  # log before answering
    refresh_s: float = field(default=0.2, metadata={"toml": "serve.refresh_s"})  # how often changes are looked for
    max_refused: float = field(default=0.01, metadata={"toml": "ingest.max_refused"})  # share of rows, [0, 1]
    # When `nbo train --if-needed` trains: any of the first three, and never before the last.
    train_max_age_days: float = field(default=7.0, metadata={"toml": "train.max_age_days"})
    train_new_events: int = field(default=100_000, metadata={"toml": "train.new_events"})  # 0: never for that
    train_on_drift: bool = field(default=True, metadata={"toml": "train.on_drift"})
    train_min_age_hours: float = field(default=12.0, metadata={"toml": "train.min_age_hours"})
    metrics_folder: Path | None = None  # where this worker writes what it measured; None: nobody asks
    started: float = field(default_factory=time.time)  # real time at which a set clock begins to tick

    def __post_init__(self) -> None:
        for name in ("epsilon", "max_refused", "new_offer_share", "save_rate", "shadow_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadSettings(f"{name} == {getattr(self, name)}, must be in [0, 1]", name)
        if not 0 <= self.holdout < 1:
            raise BadSettings(f"holdout == {self.holdout}, must be in [0, 1)", "holdout")
        above_0 = ("expires_after_s", "refresh_s", "temperature", "draws", "prior_strength", "shortlist")
        for name in (*above_0, "train_max_age_days"):
            if not getattr(self, name) > 0:
                raise BadSettings(f"{name} == {getattr(self, name)}, must be above 0", name)
        for name in ("train_new_events", "train_min_age_hours"):
            if not getattr(self, name) >= 0:
                raise BadSettings(f"{name} == {getattr(self, name)}, must be 0 or more", name)
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise BadSettings(f"time_zone is {self.time_zone!r}, expected an IANA name", "time_zone") from None

    def now(self) -> datetime:
        """The fixed instant of a command: `as_of`, or the real time."""
        return self.as_of or datetime.now(UTC)

    def clock(self) -> Clock:
        """A clock that starts at `as_of` when the service starts, and ticks."""
        as_of = self.as_of
        if as_of is None:
            return lambda: datetime.now(UTC)
        return lambda: as_of + timedelta(seconds=time.time() - self.started)


def configurable() -> dict[str, tuple[str, str]]:
    """Setting -> (its place in nbo.toml, its environment variable)."""
    return {f.name: (f.metadata["toml"], f"NBO_{f.name.upper()}") for f in fields(Settings) if "toml" in f.metadata}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """From the environment, then `nbo.toml` (in NBO_HOME, else the working directory), then the defaults."""
    environ = os.environ if environ is None else environ
    home = Path(environ.get("NBO_HOME") or ".nbo").expanduser().absolute()
    values, source = _from_toml(home)
    for name, (_, variable) in configurable().items():
        if environ.get(variable):
            values[name], source[name] = environ[variable], variable
    checked = {name: _convert(name, value, source[name]) for name, value in values.items()}
    started = float(environ.get("NBO_SERVE_STARTED") or time.time())
    folder = environ.get("NBO_METRICS_FOLDER")  # set by `nbo serve` for its workers
    return Settings(home=Home(home), started=started, metrics_folder=Path(folder) if folder else None, **checked)


def _from_toml(home: Path) -> tuple[dict[str, Any], dict[str, str]]:
    places = {place: name for name, (place, _) in configurable().items()}
    for path in (home / "nbo.toml", Path("nbo.toml")):
        if not path.is_file():
            continue
        try:
            tables = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSettings(f"{path} is not valid TOML: {error}") from None
        values = {}
        for table, entries in tables.items():
            for key, value in entries.items() if isinstance(entries, dict) else [("", entries)]:
                place = f"{table}.{key}".rstrip(".")
                if place not in places:
                    raise BadSettings(f"{path}: {place} is not a setting; expected one of {', '.join(places)}", place)
                values[places[place]] = value
        return values, {name: f"{path}: {configurable()[name][0]}" for name in values}
    return {}, {}


def _convert(name: str, value: Any, source: str) -> Any:
    kind = next(f.type for f in fields(Settings) if f.name == name)
    try:
        if name == "as_of":
            text = value.isoformat() if isinstance(value, datetime) else str(value)
            return parse_time(text, "as_of")
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if kind == "int":
            return int(str(value))
        return float(value) if kind == "float" else str(value)
    except BadEvent as error:
        expected = "an RFC 3339 time with an offset, such as 2018-08-24T18:00:00Z"
        raise BadSettings(f"{source} is {str(value)!r}, expected {expected}: {error}", name) from None
    except (ValueError, TypeError, KeyError):
        expected = {"bool": "true or false", "float": "a number", "int": "a whole number"}.get(str(kind), "text")
        raise BadSettings(f"{source} is {value!r}, expected {expected}", name) from None
