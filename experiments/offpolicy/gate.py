"""The gate of a promotion: a challenger that the log says is worth less than the champion does not pass."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from experiments.offpolicy.evaluation import Comparison, compare
from experiments.offpolicy.logged import Logged, Numbers
from experiments.offpolicy.reward_models import Fit

Passage = Literal["passes", "refused", "no verdict"]


class Gate(Struct, frozen=True, kw_only=True):
    """What the log says of a challenger. Only a value that is credibly lower refuses it; no verdict blocks nothing."""

    passage: Passage
    reasons: tuple[str, ...]
    overlap_permits: bool
    comparison: Comparison | None = None  # None: there was nothing to compare on

    @property
    def sentence(self) -> str:
        if self.passage == "no verdict":
            return f"the log gives no verdict: {'; '.join(self.reasons)}"
        return "; ".join(self.reasons)


def off_policy_gate(
    logged: Logged,
    champion: Numbers,
    *,
    fit: Fit | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    beforehand: tuple[str, ...] = (),
) -> Gate:
    """The log's candidate, the challenger, against the champion's chances, (n, n_offers), on the same rows.

    Refused when the whole interval of the difference in value (doubly robust, two-sided at `alpha`) is below 0 and
    overlap and outcomes permit a verdict of both.
    """
    names = "the challenger", "the champion"
    found = compare(logged, champion, fit=fit, alpha=alpha, seed=seed, names=names, beforehand=beforehand)
    permits = found.overlap.permits and found.other_overlap.permits
    passage: Passage = "no verdict" if found.verdict == "no verdict" else "passes"
    if found.verdict == "lower":
        passage = "refused"
    return Gate(passage=passage, reasons=found.reasons, overlap_permits=permits, comparison=found)


def no_verdict(reason: str) -> Gate:
    """When the log could not be read for it."""
    return Gate(passage="no verdict", reasons=(reason,), overlap_permits=False)
