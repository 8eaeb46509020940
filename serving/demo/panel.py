"""What there is to watch: how visitors answer, beside what chance alone and perfect knowledge would have earned."""

from __future__ import annotations

import operator
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from serving.demo.visitors import Visit

LAST = 500  # visits that the second column looks at
LINE_EVERY_S = 5.0  # where there is no terminal
DRAW_EVERY_S = 0.25
VALUE, ACCEPTANCE = "value accepted per impression", "acceptance rate"


class Level(NamedTuple):
    """What the history's impressions came to."""

    acceptance_rate: float
    value_per_impression: float  # margin accepted, in currency


class Tally:
    """Visits added up, beside the history, whose policy was almost random."""

    def __init__(self, history: Level) -> None:
        self.history = history
        self.n_visits = 0
        self.total = Visit(0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
        self.last: deque[Visit] = deque(maxlen=LAST)

    def add(self, visit: Visit) -> None:
        self.n_visits += 1
        self.total = Visit._make(map(operator.add, self.total, visit))
        self.last.append(visit)

    def figures(self) -> dict[str, float]:
        """Of all visits, and how long the last ones took; NaN where there is nothing to divide by."""
        took_ms = [visit.seconds * 1e3 for visit in self.last] or [np.nan]
        return {
            **rates(self.total, self.n_visits),
            "decision p50, ms": float(np.median(took_ms)),
            "decision p99, ms": float(np.quantile(took_ms, 0.99)),
            "degraded": float(self.total.degraded),
        }


def rates(total: Visit, n_visits: int) -> dict[str, float]:
    """What summed visits come to, per impression and per visit."""
    return {
        VALUE: _ratio(total.value, total.n_impressions),
        ACCEPTANCE: _ratio(total.n_accepts, total.n_impressions),
        "click rate": _ratio(total.n_clicks, total.n_impressions),
        "expected value, first place": _ratio(total.expected, n_visits),
        "… of a random offer": _ratio(total.expected_random, n_visits),
        "… of the best offer, had the truth been known": _ratio(total.expected_best, n_visits),
    }


def watch(visits: Iterable[Visit], history: Level, console: Console) -> Tally:
    """Shows the visits as they come, as a live table on a terminal, else as a line now and then; returns the tally."""
    tally = Tally(history)
    shown = time.monotonic()
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    if live:
        live.start()
    try:
        for visit in visits:
            tally.add(visit)
            if time.monotonic() - shown < (DRAW_EVERY_S if live else LINE_EVERY_S):
                continue
            shown = time.monotonic()
            if live:
                live.update(_table(tally), refresh=True)
            else:
                console.print(line(tally), soft_wrap=True)
    except KeyboardInterrupt:
        console.print("Ctrl-C: closing the shop")
    finally:
        if live:
            live.stop()
    return tally


def line(tally: Tally) -> str:
    now = tally.figures()
    return (
        f"{tally.n_visits:,} visits, value per impression {now[VALUE]:.2f} "
        f"(history, almost random: {tally.history.value_per_impression:.2f}), acceptance {now[ACCEPTANCE]:.1%} "
        f"({tally.history.acceptance_rate:.1%}), first place expects {now['expected value, first place']:.2f} "
        f"(random {now['… of a random offer']:.2f}, best {now['… of the best offer, had the truth been known']:.2f}), "
        f"p50 {now['decision p50, ms']:.1f} ms, p99 {now['decision p99, ms']:.1f} ms, degraded {now['degraded']:.0f}"
    )


def _table(tally: Tally) -> Table:
    table = Table(title=f"{tally.n_visits:,} visits (Ctrl-C ends)", title_justify="left")
    table.add_column("")
    table.add_column("all", justify="right")
    table.add_column(f"last {LAST}", justify="right")
    before = {VALUE: tally.history.value_per_impression, ACCEPTANCE: tally.history.acceptance_rate}
    recent = rates(Visit._make(map(sum, zip(*tally.last, strict=True))), len(tally.last))
    for name, value in tally.figures().items():
        table.add_row(name, _shown(name, value), _shown(name, recent[name]) if name in recent else "")
        if name in before:
            table.add_row("… in the history, almost random", _shown(name, before[name]), "")
    return table


def _ratio(total: float, n: int) -> float:
    return total / n if n else float("nan")


def _shown(name: str, value: float) -> str:
    if name.endswith("rate"):
        return f"{value:.1%}"
    return f"{value:.0f}" if name == "degraded" else f"{value:.2f}"
