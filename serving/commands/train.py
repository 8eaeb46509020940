"""`nbo train`: fit, compare with the baseline, log to MLflow, register as challenger."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from features.facts import Facts
from serving.settings import load_settings

if TYPE_CHECKING:
    from training.search import Search


def asked_for(budget: str | None, jobs: int | None, resume: bool) -> Search:
    """A search as the options say; `BadInput` for what it cannot be."""
    from training.search import Search, seconds_of

    return Search(budget_s=seconds_of(budget or "10m"), jobs=2 if jobs is None else jobs, resume=resume)


def run(which: str, *, seed: int, as_json: bool, search: Search | None = None) -> int:
    """Prints what was chosen and by how much it beats its baseline; exit code 0. `NotTrainable` with the numbers."""
    settings = load_settings()
    from training.pipeline import train

    facts = Facts(settings.home.facts_db)
    started = time.monotonic()
    on_terminal = sys.stderr.isatty()

    def progress(step: str) -> None:
        if on_terminal:
            print(f"\r\x1b[K{time.monotonic() - started:6.1f} s  {step}", end="", file=sys.stderr, flush=True)

    try:
        report = train(
            settings.home,
            facts,
            which,  # type: ignore[arg-type]
            as_of=settings.now(),
            seed=seed,
            progress=progress,
            search=search,
        )
    finally:
        facts.close()
        if on_terminal:
            print(file=sys.stderr)
    if as_json:
        print(msgspec.json.encode(asdict(report)).decode())
        return 0
    from training.report import model_lines

    for model in report.models:
        print("\n".join(model_lines(model)))
    print(release_line(report.release, calibrated=report.calibrated))
    return 0


def release_line(release: str | None, *, calibrated: bool) -> str:
    """What the training made of its models, and the next step."""
    if release is None:
        return (
            "no release was made: one needs a recommender, and none was ever trained. "
            "`nbo train` or `nbo train recommender` makes one, with what was trained now"
        )
    said = "with an acceptance model" if calibrated else "uncalibrated"
    return f"release {release} ({said}) is the challenger; `nbo models promote` makes it serve"
