"""What experiments promise, with the tables that the docs quote. `make prove-experiments`.

Each section prints what it did and lines that hold or not; the exit code is 1 when one does not. `--quick` makes a
tenth of the simulations, `--only` names sections. Real data are read from ../shared/data, or from NBO_SHARED_DATA;
without them the sections that need them fail.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench.proof import Proof
from bench.prove_asos import asos
from bench.prove_hillstrom import hillstrom
from bench.prove_offpolicy import open_bandit
from bench.prove_sequential import early_decisions, formulas, peeking, split_looks
from bench.prove_simulation import chain_in_process, chain_over_http, common_luck
from bench.prove_starbucks import starbucks
from bench.prove_statistics import false_positives, latency_false_positives, naive_ratio, planted, power

SECTIONS: dict[str, Callable[[Proof], None]] = {
    "aa": false_positives,
    "aa-latency": latency_false_positives,
    "naive": naive_ratio,
    "planted": planted,
    "power": power,
    "formulas": formulas,
    "peeking": peeking,
    "early": early_decisions,
    "split": split_looks,
    "asos": asos,
    "hillstrom": hillstrom,
    "open-bandit": open_bandit,
    "starbucks": starbucks,
    "chain": chain_in_process,
    "chain-http": chain_over_http,
    "common-luck": common_luck,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    args = parser.parse_args()
    proof = Proof(quick=args.quick)
    for name, section in SECTIONS.items():
        if args.only and name not in args.only:
            continue
        started = time.perf_counter()
        proof.progress(f"== {name}")
        section(proof)
        proof.progress(f"== {name}: {time.perf_counter() - started:.0f} s")
    for failure in proof.failures:
        print(f"FAILED  {failure}")
    print("all proofs hold" if not proof.failures else f"{len(proof.failures)} of the proofs failed")
    return int(bool(proof.failures))


if __name__ == "__main__":
    sys.exit(main())
