"""`nbo report churn`: who is likely to leave, why, and what goes with them, by the release that serves."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import BadInput, NboError
from serving.settings import load_settings

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".csv", ".json", ".parquet")


def run(*, out: Path | None, reasons: int, top: int | None, as_json: bool) -> int:
    """Writes or prints one row per customer at risk, the greatest expected loss first; exit code 0.

    What has to be known to read the list is said on stderr, and in JSON under `notes` beside `customers`.
    `NboError` before a release with a churn model serves; `BadInput` for a file of another kind.
    """
    from features.facts import Facts
    from training.at_risk import customers_at_risk
    from training.scorers import load_champion
    from training.steps.inputs import read_inputs

    if out is not None and out.suffix not in FORMATS:
        raise BadInput(f"--out is {out.name}, expected a file that ends in {', '.join(FORMATS)}", "out")
    settings = load_settings()
    release = load_champion(settings.home.releases)
    if release is None or release.churn is None:
        raise NboError(
            "no release with a churn model serves: run `nbo train all`, as a release needs a recommender too "
            "(`nbo train churn` once there is one), and `nbo models promote`"
        )
    with closing(Facts(settings.home.facts_db)) as facts:
        inputs = read_inputs(settings.home, facts, settings.now(), 0)
        try:
            found = customers_at_risk(inputs, release.churn, reasons)
        finally:
            inputs.log.db.close()
    table = found.customers if top is None else found.customers.head(top)
    for note in found.notes:
        print(note, file=sys.stderr)
    if out is None:
        print(_as_json(table, found.notes) if as_json else table.to_csv(index=False), end="")
        return 0
    if out.suffix == ".parquet":
        table.to_parquet(out, index=False)
    elif out.suffix == ".json":
        out.write_text(_as_json(table, found.notes))
    else:
        table.to_csv(out, index=False)
    print(f"{len(table):,} customers at risk: {out}", file=sys.stderr)
    return 0


def _as_json(table: pd.DataFrame, notes: Sequence[str]) -> str:
    rows = json.loads(table.to_json(orient="records", double_precision=15))
    return json.dumps({"notes": list(notes), "customers": rows}, indent=1, ensure_ascii=False) + "\n"
