"""An offer's own rule says which customers may have it; where the rule is unknown, they may not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.errors import BadRule
from features.language import Expression, Names, Program, interpret, parse, values_seen, variables
from features.language.kernel import run
from serving.arrays import read_only
from serving.compiled import compiled
from serving.rules.asked import Asked
from serving.rules.programs import Compiler

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView

logger = logging.getLogger(__name__)
NOBODY = parse("false")
CASES_BYTES = 16_000_000
OUTCOMES = {True: "true", False: "false", None: "unknown"}


class EligibilityRule:
    name: ClassVar[str] = "eligibility"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._names = Names.of(view.feature_set)
        self._rules = view.each.of("rule", _rule_of)
        self._program: Program | None = None
        if any(rule is not None for rule in self._rules):
            compiler = Compiler(view.each, "eligibility")
            self._program = compiler.program(compiler.codes("eligibility", _rule_of), self._names)
        # A visitor asks again with each page, and visitors are alike.
        self._cases: dict[tuple[float, ...], NDArray[np.bool_]] = {}
        self._most_cases = CASES_BYTES // max(len(view), 1)
        # A default is no fact: nobody who bought yesterday may pass for somebody who never did.
        needs = view.each.of("needs_features", lambda offer: self._names_features(_rule_of(offer)))
        self._needs_features = np.array(needs, dtype=bool)

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        if self._program is None:
            return None
        program = self._program
        values = program.values(asked)
        case = program.case(values) if asked.features_known else None
        if case is not None and (known := self._cases.get(case)) is not None:
            return known
        holds = np.empty(len(self._view), np.bool_)
        operands = program.operands(asked, values)
        _holding(*operands, program.outcome_of, self._needs_features, asked.features_known, holds)
        if case is not None:
            if len(self._cases) >= self._most_cases:
                self._cases = {}
            self._cases[case] = read_only(holds)
        return holds

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        offer, rule = self._view.offers[row], self._rules[row]
        if rule is None:
            return {"rule": None}
        if not asked.features_known and self._needs_features[row]:
            return {"rule": offer.eligibility, "result": OUTCOMES[None], "features": "could not be read"}
        result = OUTCOMES[interpret(rule, asked, offer, self._names)]
        return {"rule": offer.eligibility, "result": result, "values": values_seen(rule, asked, offer, self._names)}

    def _names_features(self, rule: Expression | None) -> bool:
        named = variables(rule) if rule is not None else ()
        return any(one.root == "" and one.path[0] not in self._names.attribute for one in named)


@compiled
def _holding(  # type: ignore[no-untyped-def]
    now, slots, given, whole, real, outcome_of, needs_features, features_known, holds
):
    outcomes = np.empty(len(holds), np.int8)
    run(now, slots, given, whole, real, outcomes)
    for i in range(len(holds)):
        holds[i] = outcomes[outcome_of[i]] == 1 and (features_known or not needs_features[i])


def warm() -> None:
    """Compile the loop, or load it from the machine's cache, before a decision waits for it."""
    program = Program([], [], Names())
    anybody = Asked(placement_id="", channel="", now_us=0)
    _holding(*program.operands(anybody), program.outcome_of, np.ones(0, np.bool_), True, np.ones(0, np.bool_))


def _rule_of(offer: Offer) -> Expression | None:
    """A rule that cannot be read, which the API would not have saved, holds for nobody."""
    if offer.eligibility is None:
        return None
    try:
        return parse(offer.eligibility)
    except BadRule as error:
        logger.warning("%s is shown to nobody, its rule cannot be read: %s", offer.offer_id, error)
        return NOBODY
