"""`monitor.toml`: when a figure is a reason to look, as data, checked; where it is absent the defaults hold."""

from __future__ import annotations

import math
import tomllib

import msgspec

from features.errors import BadSettings
from features.home import Home

FILE = "monitor.toml"


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is crossed when a figure is worse; `inf` (or `-inf`, where less is worse) watches without judging."""

    psi: float = 0.2  # of one feature between training and now
    ks: float = 0.2  # largest distance of a feature's distribution functions
    null_rate: float = 0.1  # by how much the share of customers without a value may have changed, either way
    unseen_share: float = 0.01  # of customers with a category that the acceptance model has no column for
    feature_age_h: float = 36.0  # median age of the snapshot that decisions were made from
    without_features: float = 0.02  # share of decisions of which features could not be read
    prediction_psi: float = 0.2  # of P(accept) and P(churn), between the release's first days and now
    calibration: float = 0.2  # mean P(accept) over rate - 1, either way, beyond its interval
    ece: float = 0.05  # expected calibration error on matured outcomes
    auc_loss: float = 0.05  # AUC when trained minus AUC on matured outcomes, beyond its interval
    offers_shown: float = 0.2  # least share of the offers on sale that were shown at all
    empty: float = 0.2  # share of placements that stayed empty
    held_back: float = 0.5  # share of otherwise eligible offers that caps, inventory and budgets hold back
    degraded: float = 0.01  # share of decisions
    late: float = 0.001  # share of decisions beyond their deadline
    model_age_days: float = 14.0  # since the end of the champion's data
    min_decisions: int = 100  # in the window, before shares of them are judged
    min_customers: int = 200  # on each side, before a distribution is compared
    min_outcomes: int = 200  # matured impressions, and 20 of each outcome, before a model is judged by them


def read_thresholds(home: Home) -> Thresholds:
    """From `monitor.toml` in NBO_HOME. `BadSettings` names the key, and what was expected."""
    path = home.root / FILE
    try:
        found = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Thresholds()
    except (UnicodeDecodeError, OSError) as error:
        raise BadSettings(f"{path} cannot be read: {error}", FILE) from None
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{path} is not valid TOML: {error}", FILE) from None
    known = {field.name: field.type for field in msgspec.structs.fields(Thresholds)}
    for key, value in found.items():
        if key not in known:
            raise BadSettings(f"{FILE}: {key} is not a threshold; expected one of {', '.join(known)}", key)
        try:
            msgspec.convert(value, known[key])
        except msgspec.ValidationError as error:
            raise BadSettings(f"{FILE}: {key} is {value!r}: {error}", key) from None
        if isinstance(value, float) and math.isnan(value):
            raise BadSettings(f"{FILE}: {key} is nan, expected a number", key)
        if value < 0 and value != -math.inf:
            raise BadSettings(f"{FILE}: {key} is {value!r}, expected 0 or more", key)
    return msgspec.convert(found, Thresholds)
