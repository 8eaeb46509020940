"""What each unit did, in the numbers of each metric: one query over what happened."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.metrics import Metric, filled
from experiments.tables import Tables
from experiments.units import Made
from features.data_settings import DataSettings

NOW, BEFORE = "since_us >= 0", "since_us < 0"


def unit_rows(tables: Tables, made: Made, metrics: Sequence[Metric], part: tuple[int, int] | None = None) -> str:
    """A query: unit_id, variant, phase, start_us, segment_0 …, and the four numbers of each metric, per unit.

    Of all units, or those numbered `part`, from and until; the tables `units` and `happened` must be there.
    """
    settings = tables.settings
    texts = {
        f"{metric.name}_{number}": (metric, text)
        for metric in metrics
        for number, text in _expressions(metric, settings, made.pre_us > 0).items()
    }
    inner = ", ".join(f"{text} AS {name}" for name, (_, text) in texts.items())
    (idle,) = tables.db.execute(f"SELECT {inner} FROM happened WHERE FALSE").fetchall()
    outer = "".join(
        f", {_part(metric, settings, _or(name, value))} AS {name}"
        for (name, (metric, _)), value in zip(texts.items(), idle, strict=True)
    )
    some = "" if part is None else f"WHERE uid >= {part[0]} AND uid < {part[1]}"
    segments = "".join(f", u.segment_{n}" for n in range(len(made.segments)))
    return (
        f"SELECT u.unit_id, u.variant, u.phase, u.start_us{segments}{outer} FROM (SELECT * FROM units {some}) u "
        f"LEFT JOIN (SELECT uid, {inner} FROM happened {some} GROUP BY uid) d ON u.uid = d.uid"
    )


def _or(name: str, idle: float | None) -> str:
    """The number of a unit, or what the same expression gives where nothing happened."""
    return f"d.{name}" if idle is None else f"coalesce(d.{name}, {idle!r})"


def _expressions(metric: Metric, settings: DataSettings, has_pre: bool) -> dict[str, str]:
    """SQL of the four numbers of one unit, by `NUMBERS`."""
    one = "CAST(1 AS DOUBLE)"
    ratio = metric.denominator is not None
    pre_den = metric.pre_denominator or (metric.denominator if metric.pre_numerator is None else None)
    texts = {
        "num": filled(metric.numerator, settings, NOW),
        "den": filled(metric.denominator, settings, NOW) if metric.denominator is not None else one,
        "pre_num": filled(metric.pre_numerator or metric.numerator, settings, BEFORE),
        "pre_den": filled(pre_den, settings, BEFORE) if ratio and pre_den is not None else one,
    }
    nothing = "CAST(NULL AS DOUBLE)"
    return {
        name: nothing if name.startswith("pre") and not has_pre else f"coalesce(CAST({text} AS DOUBLE), 0)"
        for name, text in texts.items()
    }


def _part(metric: Metric, settings: DataSettings, value: str) -> str:
    if metric.takes_part is None:
        return value
    return f"CASE WHEN {filled(metric.takes_part, settings)} THEN {value} END"
