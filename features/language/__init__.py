"""The language of rules: `age >= 18 and country in ("DE", "FR") and context.device != "tv"`.

A rule is parsed and checked when it is saved, and compiled for all offers together; it is never evaluated as Python.
What is missing or of another kind is unknown, and unknown spreads by Kleene's three-valued logic.
"""

from features.errors import BadRule
from features.language.build import Build
from features.language.check import check
from features.language.interpret import interpret
from features.language.kernel import N_CONSTANTS, TRUE
from features.language.names import Names, Scope
from features.language.parse import parse
from features.language.program import Program, warm
from features.language.ranges import empty_ranges
from features.language.seen import values_seen
from features.language.syntax import Expression, Variable, variables

__all__ = [
    "N_CONSTANTS", "TRUE", "BadRule", "Build", "Expression", "Names", "Program", "Scope", "Variable", "check",
    "empty_ranges", "interpret", "parse", "values_seen", "variables", "warm",
]  # fmt: skip
