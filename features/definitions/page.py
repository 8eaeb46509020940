"""The reference page of the features, made from their declaration: `python -m features.definitions.page`."""

from __future__ import annotations

from features.definitions import feature_set
from features.definitions.dsl import Family, Feature

HEAD = """# Features

Made from `features/definitions/` by `python -m features.definitions.page`; a test holds the two together. A window of n
days is today so far and the n − 1 whole UTC days before; features of offers cover whole days only. A recipe whose data
span fewer days leaves out the longer windows, and profile attributes are added from the data.

*default* is the value when nothing is known; *ttl* is the age, in days, past which a stored value is not read.
"""


def reference_page() -> str:
    """Markdown: one table per family, in column order."""
    families = [family for family in feature_set().families if family.features]
    return HEAD + "".join(_section(family) for family in families)


def _section(family: Family) -> str:
    of = "customer" if family.entity == "customer" else "offer"
    rows = "".join(_row(feature) for feature in family.features)
    title = f"\n## {family.name}\n\n{family.description}. Of each {of}.\n"
    return f"{title}\n| feature | kind | unit | default | ttl | description |\n|---|---|---|---|---|---|\n{rows}"


def _row(feature: Feature) -> str:
    default = "missing" if feature.default is None else f"{feature.default:g}"
    if feature.kind == "keyed":
        default = "empty"
    cells = (f"`{feature.name}`", feature.kind, feature.unit, default, f"{feature.ttl_days:g}", feature.description)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    print(reference_page(), end="")
