"""What the models promise on real data, with the tables of docs/explanation/model-quality.md. `make prove-models`.

Each section prints its table and lines that hold or not; the exit code is 1 when a figure lies below the 95 % interval
of the best known single method. Targets are printed, not enforced. `--quick` takes fewer folds, seeds and draws,
`--only` names sections. The data are read from ../shared/data, or from NBO_SHARED_DATA; without them the sections fail.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from bench.proof import Proof

SECTIONS = {  # section -> module of this folder and its function
    "ranking": ("prove_ranking", "ranking"),
    "cold": ("prove_cold", "cold"),
    "acceptance": ("prove_acceptance", "acceptance"),
    "churn": ("prove_churn", "churn"),
    "uplift": ("prove_uplift", "uplift"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer folds, seeds and draws")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    args = parser.parse_args()
    proof = Proof(quick=args.quick)
    for name, (module, function) in SECTIONS.items():
        if args.only and name not in args.only:
            continue
        started = time.perf_counter()
        proof.progress(f"== {name}")
        getattr(importlib.import_module(f"bench.{module}"), function)(proof)
        proof.progress(f"== {name}: {time.perf_counter() - started:.0f} s")
    for failure in proof.failures:
        print(f"FAILED  {failure}")
    print("all proofs hold" if not proof.failures else f"{len(proof.failures)} of the proofs failed")
    return int(bool(proof.failures))


if __name__ == "__main__":
    sys.exit(main())
