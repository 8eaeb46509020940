"""What the models promise on real data, with the tables of docs/explanation/model-quality.md. `make prove-models`.

Each section prints its table and lines that hold or not; the exit code is 1 when a figure lies below the 95 % interval
of the best known single method. Targets are printed, not enforced. `--quick` takes fewer folds, seeds and draws,
`--only` names sections. The data are read from ../shared/data, or from NBO_SHARED_DATA; without them the sections fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.proof import Proof, prove
from bench.prove_acceptance import acceptance
from bench.prove_churn import churn
from bench.prove_cold import cold
from bench.prove_ranking import ranking
from bench.prove_uplift import uplift

SECTIONS: dict[str, Callable[[Proof], None]] = {
    "ranking": ranking,
    "cold": cold,
    "acceptance": acceptance,
    "churn": churn,
    "uplift": uplift,
}


if __name__ == "__main__":
    sys.exit(prove(SECTIONS, __doc__, "fewer folds, seeds and draws"))
