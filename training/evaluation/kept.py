"""Per-customer figures as bytes, so that two runs that judged the same customers can be compared pair by pair later."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.ranking import RankingReport
from training.read_back import read_back

JUDGED = "judged.npz"  # the file of it, beside the scorer


@dataclass(frozen=True)
class KeptJudged:
    """What a run keeps of a report."""

    customers: tuple[str, ...]
    cutoffs: tuple[int, ...]
    exclude_seen: bool
    values: Mapping[str, NDArray[np.float32]]  # metric -> (n_customers, n_cutoffs)


def judged_bytes(report: RankingReport) -> bytes:
    """An `.npz` of `customers`, `cutoffs`, `exclude_seen` and one array per metric; the same report, the same bytes."""
    buffer = io.BytesIO()
    arrays: dict[str, NDArray[np.float32]] = {
        f"metric_{name}": values.astype(np.float32) for name, values in report.values.items()
    }
    np.savez_compressed(
        buffer,
        customers=np.array(report.customers, dtype=np.str_),
        cutoffs=np.array(report.cutoffs),
        exclude_seen=np.array(report.exclude_seen),
        **arrays,  # type: ignore[arg-type]
    )
    return buffer.getvalue()


def judged_from(body: bytes, version: str) -> KeptJudged:
    """`BrokenRelease` names the version and the file, where the bytes are cut, garbled, or of other customers."""
    with read_back(version, JUDGED), np.load(io.BytesIO(body), allow_pickle=False) as read:
        kept = KeptJudged(
            customers=tuple(read["customers"].tolist()),
            cutoffs=tuple(read["cutoffs"].tolist()),
            exclude_seen=bool(read["exclude_seen"]),
            values={name.removeprefix("metric_"): read[name] for name in read.files if name.startswith("metric_")},
        )
        expected = len(kept.customers), len(kept.cutoffs)
        for name, values in kept.values.items():
            if values.shape != expected:
                raise ValueError(f"{name} has shape {values.shape}, expected {expected}")
        return kept
