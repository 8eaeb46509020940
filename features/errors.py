"""The one tree of errors.

NboError                      code "error"
├── BadInput                  code "invalid"              somebody gave us something we cannot take; names the field
│   ├── BadEvent              code per fault              one event of a batch
│   ├── BadRecipe             code "bad_recipe"           a recipe's folder, query or settings
│   ├── BadRule               code "bad_rule"             a rule that cannot be read, or that cannot hold
│   └── BadSettings           code "bad_settings"         nbo.toml or an NBO_… variable
├── NotFound                  code "not_found"            a named object that does not exist
├── Conflict                  code "conflict"             the request contradicts what is stored
│   ├── AlreadyJoined         code "already_joined"       an anonymous visitor who is another customer already
│   ├── Erased                code "erased"               a customer of whom nothing may be kept any more
│   ├── ExperimentRefused     code per reason             what an experiment's state, or another experiment, forbids
│   ├── IdempotencyConflict   code "idempotency_conflict" the same key with another body
│   └── StaleVersion          code "stale_version"        If-Match does not match
├── InputsExpired             code "inputs_expired"       a decision that is too old to be made again
├── TooManyRefused            code "too_many_refused"     an ingest above its share of refused rows
├── NotTrainable              code "not_trainable"        the data cannot support a model, and why
│   └── Leakage               code "leakage"              a model that knows what it cannot know; names the feature
├── PromotionRefused          code "promotion_refused"    a gate said no
├── BrokenRelease             code "broken_release"       files that disagree with their digest or their map
├── StaleFeatures             code "stale_features"       features older than their time to live
└── StoreUnavailable          code "store_unavailable"    a store that did not answer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class NboError(Exception):
    """Anything this project raises on purpose; `code` is stable and safe to show."""

    code = "error"


class BadInput(NboError):
    """Bad input; `field` is a JSON pointer or a column, `None` if the whole is meant."""

    code = "invalid"

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail, self.field = detail, field


class BadEvent(BadInput):
    """One event that is refused; the code says which check failed."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail, field)
        self.code = code


class BadRecipe(BadInput):
    code = "bad_recipe"


class BadRule(BadInput):
    """`at` is where in the text, counted from 0."""

    code = "bad_rule"

    def __init__(self, detail: str, at: int, field: str | None = None) -> None:
        super().__init__(f"at character {at + 1}: {detail}", field)
        self.at = at


class BadSettings(BadInput):
    code = "bad_settings"


class NotFound(NboError):
    code = "not_found"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.kind, self.name = kind, name


class Conflict(NboError):
    code = "conflict"


class AlreadyJoined(Conflict):
    code = "already_joined"


class Erased(Conflict):
    code = "erased"

    def __init__(self) -> None:
        super().__init__("this id was erased; nothing is kept of it any more. Who comes back gets a new id")


class ExperimentRefused(Conflict):
    """What the state of an experiment, or another experiment, forbids; `fields` are JSON pointers."""

    def __init__(self, code: str, detail: str, fields: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.code, self.detail, self.fields = code, detail, tuple(fields)


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"


class StaleVersion(Conflict):
    code = "stale_version"

    def __init__(self, given: str, current: str | None) -> None:
        super().__init__(f"expected {given}, the stored object is {current or 'absent'}")
        self.given, self.current = given, current


class InputsExpired(NboError):
    code = "inputs_expired"


class TooManyRefused(NboError):
    code = "too_many_refused"

    def __init__(
        self, table: str, n_refused: int, n_rows: int, limit: float, report: str, tables: Sequence[Any] = ()
    ) -> None:
        super().__init__(
            f"{table}: {n_refused:,} of {n_rows:,} rows were refused ({n_refused / max(n_rows, 1):.2%}), "
            f"the limit is {limit:.2%}; nothing was committed. The refused rows with their reasons: {report}"
        )
        self.n_refused, self.n_rows, self.limit, self.report = n_refused, n_rows, limit, report
        self.table, self.tables = table, tables  # the one above its limit, and what became of all


class NotTrainable(NboError):
    code = "not_trainable"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"{model} is not trainable: {reason}")
        self.model, self.reason = model, reason


class Leakage(NotTrainable):
    """`feature` is the column that knows too much, `None` if it is not one column."""

    code = "leakage"

    def __init__(self, model: str, reason: str, feature: str | None = None) -> None:
        super().__init__(model, reason)
        self.feature = feature


class PromotionRefused(NboError):
    """`gates` is what each gate said, where they were asked."""

    code = "promotion_refused"

    def __init__(self, detail: str, gates: Sequence[Any] = ()) -> None:
        super().__init__(detail)
        self.gates = tuple(gates)


class BrokenRelease(NboError):
    code = "broken_release"


class StaleFeatures(NboError):
    code = "stale_features"

    def __init__(self, age_s: float, limit_s: float) -> None:
        super().__init__(f"features are {age_s:.0f} s old, the limit is {limit_s:.0f} s")
        self.age_s, self.limit_s = age_s, limit_s


class StoreUnavailable(NboError):
    code = "store_unavailable"
