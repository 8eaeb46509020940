"""What the decision engine promises, at full size: caps, frequencies, flood, regret. `make prove-decisions`.

Each proof is a command of its own that prints JSON and exits 1 when it fails; this runs them one after the other, says
what they found, writes the picture of the regret, and exits 1 when one fails. `--quick` runs them at a tenth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is claimed, and the command that shows it."""

    claim: str
    command: tuple[str, ...]
    quick: tuple[str, ...] = ()  # added for a run at a smaller size


def proofs(picture: Path) -> tuple[Proof, ...]:
    return (
        Proof(
            "a million concurrent decisions break no cap, inventory or budget, and leak nothing",
            ("bench.caps", "--decisions", "1000000"),
            ("--decisions", "100000"),
        ),
        Proof(
            "over 200,000 decisions, offers are shown as often as their logged probabilities say",
            ("pytest", "-q", "-p", "no:cacheprovider", "tests/serving/test_policy_frequencies.py"),
        ),
        Proof(
            "1 % of the accounts with half of the clicks move an offer's share by less than 2 points",
            ("bench.flood",),
            ("--customers", "4000"),
        ),
        Proof(
            "over 100,000 decisions no more regret than LinUCB and Thompson sampling of MABWiser",
            ("bench.regret", "--decisions", "100000", "--picture", str(picture)),
            ("--decisions", "20000"),
        ),
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--picture", type=Path, default=Path("bench/regret.png"), help="not committed")
    given = options.parse_args()
    failed = []
    for proof in proofs(given.picture):
        console.print(f"[bold]{proof.claim}[/]")
        began = time.monotonic()
        code, found = run(proof, given.quick)
        took_s = time.monotonic() - began
        print(json.dumps({"claim": proof.claim, "holds": code == 0, "took_s": round(took_s, 1), "found": found}))
        console.print(f"  {'[green]holds' if code == 0 else '[red]fails'}[/] after {took_s:.0f} s")
        if code:
            failed.append(proof.claim)
    console.print(f"picture of the regret: {given.picture}")
    return 1 if failed else 0


def run(proof: Proof, quick: bool) -> tuple[int, Any]:
    """Exit code, and the last JSON the command printed, or its last line."""
    command = [sys.executable, "-m", *proof.command, *(proof.quick if quick else ())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, _last(done.stdout)


def _last(text: str) -> Any:
    for part in (text, text.strip().rpartition("\n")[2]):
        try:
            return json.loads(part)
        except json.JSONDecodeError:
            continue
    return text.strip().rpartition("\n")[2]


if __name__ == "__main__":
    sys.exit(main())
