"""What proofs write: tables, lines that hold or not, and how long it took; failures are kept, so that all are seen."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Proof:
    """One run. `scale` shrinks simulations for a quick look; limits are widened to what so few can show."""

    quick: bool = False
    failures: list[str] = field(default_factory=list)
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def replications(self, full: int) -> int:
        """How many simulated experiments to make where a full run makes `full`."""
        return max(200, full // 10) if self.quick else full

    def line(self, holds: bool, sentence: str) -> bool:
        """Prints what was claimed with whether it holds, and keeps it if it does not."""
        print(f"{'ok     ' if holds else 'FAILED '} {sentence}", flush=True)
        if not holds:
            self.failures.append(sentence)
        return holds

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """As Markdown, so that the docs can have it as it is."""
        print("\n| " + " | ".join(header) + " |")
        print("|" + "---|" * len(header))
        for row in rows:
            print("| " + " | ".join(str(cell) for cell in row) + " |")
        print(flush=True)

    def progress(self, what: str) -> None:
        self.console.print(what, style="dim")


def prove(sections: Mapping[str, Callable[[Proof], None]], doc: str | None, quick: str) -> int:
    """The command line of a proof: every section, or those named; 1 where a line does not hold. `quick` is its help."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--only", nargs="+", choices=list(sections), metavar="SECTION", help=", ".join(sections))
    args = parser.parse_args()
    proof = Proof(quick=args.quick)
    for name, section in sections.items():
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


def shared_data() -> Path:
    """Where the real data are: ../shared/data, or NBO_SHARED_DATA."""
    return Path(os.environ.get("NBO_SHARED_DATA") or ROOT.parent / "shared" / "data")


def within(value: float, low: float, high: float, n: int, quick: bool) -> bool:
    """Whether a share of `n` simulations lies in its range; a quick run may miss it by four of its standard errors."""
    slack = 4 * (0.05 * 0.95 / n) ** 0.5 if quick else 0.0
    return low - slack <= value <= high + slack
