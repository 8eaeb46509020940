"""`nbo simulate`: policies and releases side by side in the demo's world; and whether experiments find the truth."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from experiments.simulate.compared import MEASURES, Comparison
from experiments.simulate.compared_table import differences, levels
from experiments.simulate.picture import check_ending, draw
from features.errors import BadInput
from serving.settings import Settings, load_settings
from serving.simulation.arms import arms_of
from serving.simulation.shop import OPENING, Shop, demo_shop, is_demo, new_shop

POLICIES = ("random", "greedy", "epsilon_greedy", "softmax", "thompson")
LINE_EVERY_S = 5.0  # where there is no terminal


def run(
    arms: Sequence[str],
    *,
    n_visits: int,
    seed: int,
    n_customers: int,
    n_offers: int,
    http: bool = False,
    out: Path | None = None,
    as_json: bool = False,
) -> int:
    """Policies side by side; exit code 0. `BadInput` says which option cannot be taken."""
    from serving.simulation.policies import simulate

    if out is not None:
        check_ending(out)
    wanted = arms_of(arms or POLICIES)
    if len(wanted) < 2:
        raise BadInput("one policy alone is compared with nothing, expected at least two", "arms")
    settings = load_settings()
    with shop_of(settings, seed, n_customers, n_offers, http=http) as shop, progress_on("simulate") as progress:
        found = simulate(shop, wanted, settings, n_visits=n_visits, seed=seed, http=http, progress=progress)
        place = "the demo's shop" if not shop.is_new else "a new shop, without a trained release"
    if out is not None:
        out.write_bytes(picture(found, out.suffix[1:]))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return 0
    print(f"{n_visits:,} visits of {found.n_visitors:,} customers in {place}, the same with the same luck for each")
    here = f" (of the home: {', '.join(found.switched_off)})" if found.switched_off else ""
    print(f"Experiments and the holdout are off{here}: each policy decides every visit\n")
    print_table(*levels(found))
    print()
    print_table(*differences(found, ("value_per_visitor", "expected_per_visitor", "acceptance_rate", "regret")))
    return 0


def run_experiments(
    *,
    n_null: int,
    lifts: Sequence[float],
    policy: bool,
    n_visits: int,
    seed: int,
    n_customers: int,
    n_offers: int,
    http: bool = False,
    as_json: bool = False,
) -> int:
    """Experiments with planted effects; exit code 0, or 3 when what was planted is not what was found."""
    from experiments.simulate.planted import table
    from serving.simulation.planting import planted_experiments, run_planted

    for lift in lifts:
        if not -1 < lift <= 3:
            raise BadInput(f"--planted is {lift:g}, expected a relative effect above -1 and at most 3", "planted")
    settings = load_settings()
    now = datetime.now(UTC).replace(microsecond=0) if http else OPENING
    with (
        tempfile.TemporaryDirectory(prefix="nbo-simulate-", ignore_cleanup_errors=True) as folder,
        progress_on("simulate") as progress,
    ):
        shop = new_shop(Path(folder), seed=seed, n_customers=n_customers, n_offers=n_offers, now=now)
        wanted = planted_experiments(n_null, lifts, policy=policy)
        chain = run_planted(shop, settings, wanted, n_visits=n_visits, seed=seed, http=http, progress=progress)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode({"holds": chain.holds, "chain": chain}), indent=2).decode())
    else:
        print(f"{n_visits:,} visits of {chain.n_visitors:,} customers, {len(chain.assigned)} experiments at once\n")
        print_table(*table(chain))
        print()
        for claim in chain.claims:
            print(f"{'ok    ' if claim.holds else 'FAILED'}  {claim.sentence}")
    return 0 if chain.holds else 3


def picture(found: Comparison, kind: str) -> bytes:
    words = {"share": "share", "currency": "currency", "count": "count"}
    return draw(found, {one.name: one.title for one in MEASURES}, {one.name: words[one.unit] for one in MEASURES}, kind)


@contextmanager
def shop_of(settings: Settings, seed: int, n_customers: int, n_offers: int, *, http: bool) -> Iterator[Shop]:
    """The demo's shop if NBO_HOME holds one, else a new one, gone afterwards. HTTP needs a shop that is open now."""
    if is_demo(settings.home):
        yield demo_shop(settings.home)
        return
    now = datetime.now(UTC).replace(microsecond=0) if http else OPENING
    with tempfile.TemporaryDirectory(prefix="nbo-simulate-", ignore_cleanup_errors=True) as folder:
        yield new_shop(Path(folder), seed=seed, n_customers=n_customers, n_offers=n_offers, now=now)


@contextmanager
def progress_on(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """One line that is written over on a terminal, else a line now and then; on stderr."""
    began = shown = time.monotonic()

    def note(who: str, done: int, total: int) -> None:
        nonlocal shown
        terminal = sys.stderr.isatty()
        if time.monotonic() - shown < (0.1 if terminal else LINE_EVERY_S):
            return
        shown = time.monotonic()
        line = f"{shown - began:6.1f} s  {what}: {who}, {done:,} of {total:,} visits"
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    try:
        yield note
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    for row in [header, *rows]:
        first, *rest = (f"{cell:{'<' if at == 0 else '>'}{widths[at]}}" for at, cell in enumerate(row))
        print("  ".join([first, *rest]).rstrip())
