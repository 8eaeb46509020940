"""One decision in process, step by step: features, rules, scores, the draw, the row of the log; microseconds.

Budget: `Decider.decide` at most 150 µs at 1,000 offers without the stores (whose reads and claims the door does on
threads of their own, for many at once), a customer's features 60 µs when read a moment ago and 150 µs when not. The
home is that of bench/synthetic.py: every rule on, a linear acceptance model, 64 factors. Figures are medians of the
processor time of the deciding thread, which a busy machine disturbs less than the clock on the wall; a store's waiting
is not in them. `draw` meets each customer for the first time in a while; what is indented under it, once more at once,
as the next page view of a visit does. Left out: HTTP. Run it with
`.venv/bin/python -m bench.decide [--offers N …] [--rounds N] [--home DIR]`; one line of JSON per size.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.synthetic import AT, PLACEMENTS, customer_name, make_customers, with_offers

CUSTOMERS = 2_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--offers", type=int, nargs="+", default=[100, 1_000, 10_000])
    options.add_argument("--rounds", type=int, default=400)
    options.add_argument("--home", type=Path, help="of bench.synthetic, with at least 2,000 customers")
    given = options.parse_args()
    if given.home is not None:
        print(json.dumps(measure(given.home, given.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_customers(Path(folder) / "customers", CUSTOMERS)
        for n in given.offers:
            made = with_offers(Path(folder) / "customers", Path(folder) / f"offers-{n}", n, CUSTOMERS)
            print(json.dumps(measure(made.home.root, given.rounds)), flush=True)


def measure(root: Path, rounds: int) -> dict[str, Any]:
    from random import Random

    from features.events import to_us
    from features.home import Home
    from serving.decision import DecisionRequest, PlacementRequest
    from serving.drafting import Known, draft
    from serving.edition import context_of
    from serving.settings import Settings
    from serving.wiring import build

    service = build(Settings(home=Home(root), as_of=AT))
    service.start()
    try:
        decider = service.decider
        edition = decider.edition
        now_us = to_us(decider.clock())
        times: dict[str, list[float]] = {}

        def timed(step: str, call: Callable[..., Any], *given: Any) -> Any:
            began = time.thread_time_ns()
            found = call(*given)
            times.setdefault(step, []).append((time.thread_time_ns() - began) / 1000)
            return found

        for n in range(rounds + 30):
            if n == 30:
                times.clear()  # the first ones fill caches
            name = customer_name(n % CUSTOMERS)
            request = DecisionRequest(
                customer_id=name,
                placements=(PlacementRequest(PLACEMENTS[0], 3),),
                context={"page": "/", "device": "mobile"},
            )
            cold = timed("customer_first_read", edition.customers.read, name, now_us)
            timed("customer_read_again", edition.customers.read, name, now_us)
            (history,) = timed("history", service.contacts.histories, [name])
            stock = timed("stock", service.contacts.stock, now_us)
            known = Known(cold, history, stock)
            attempt = timed("draw", decider.begin, edition, request, known, 1)
            asked = attempt.draft.placements[0].asked
            timed("  rules", edition.rules.eligible, asked)
            context = context_of(now_us, "web", PLACEMENTS[0])
            timed("  scores", edition.score, name, cold.features, context)
            timed("  churn", edition.p_churn, cold.features)
            timed("  draft", draft, edition, decider.settings, attempt.question, Random(1))
            timed("answer_and_row", decider.finish, attempt)
            timed("decide_with_stores", decider.decide, request, 1)
        found = {name: round(median(of), 1) for name, of in times.items()}
        found["decide"] = round(median(map(sum, zip(times["draw"], times["answer_and_row"], strict=True))), 1)
        return {"offers": len(edition.view), "us": found, "load": round(os.getloadavg()[0], 1)}
    finally:
        service.close()


if __name__ == "__main__":
    main()
