"""What we learn: datasets, models, evaluation, registry and releases.

The steps of `nbo train` as functions, for notebooks: `from training import fit_recommender`. They are imported when
they are asked for, so that who serves loads nothing that only training needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.evaluation import difference as difference
    from training.evaluation import evaluate_ranking as evaluate_ranking
    from training.evaluation import intervals as intervals
    from training.evaluation import rolling_cutoffs as rolling_cutoffs
    from training.evaluation import segment_table as segment_table
    from training.frames import customer_value as customer_value
    from training.frames import fit_probabilities as fit_probabilities
    from training.frames import fit_recommender as fit_recommender
    from training.frames import fit_uplift as fit_uplift
    from training.frames import interactions_from as interactions_from
    from training.frames import parts_at as parts_at
    from training.frames import probabilities as probabilities
    from training.frames import read_events as read_events
    from training.frames import recommend as recommend
    from training.models import RECOMMENDERS as RECOMMENDERS
    from training.pipeline import train as train
    from training.registry import list_models as list_models
    from training.registry import promote as promote
    from training.release_report import report_release as report_release
    from training.releases import roll_back as roll_back

# fmt: off
_PLACES = {
    "training.evaluation": (
        "difference",
        "evaluate_ranking",
        "intervals",
        "rolling_cutoffs",
        "segment_table",
    ),
    "training.frames": (
        "customer_value",
        "fit_probabilities",
        "fit_recommender",
        "fit_uplift",
        "interactions_from",
        "parts_at",
        "probabilities",
        "read_events",
        "recommend",
    ),
    "training.models": ("RECOMMENDERS",),
    "training.pipeline": ("train",),
    "training.registry": (
        "list_models",
        "promote",
    ),
    "training.release_report": ("report_release",),
    "training.releases": ("roll_back",),
}
# fmt: on
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _PLACE_OF:
        return getattr(import_module(_PLACE_OF[name]), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACE_OF])
