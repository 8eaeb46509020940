"""`nbo models list | gates | promote | shadow | export`: what is registered, and which release serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from features.errors import NboError, NotFound, PromotionRefused
from serving.settings import load_settings


def list_models(*, as_json: bool) -> int:
    from training.registry import list_models as registered
    from training.releases import alias_history

    home = load_settings().home
    rows = registered(home)
    if as_json:
        print(msgspec.json.encode({"versions": rows, "history": alias_history(home)}).decode())
        return 0
    if not rows:
        print("nothing is registered yet: run `nbo train`")
    for row in rows:
        figure = next((f"{m} {row['metrics'][m]:.4f}" for m in ("auc", "ndcg_at_10") if m in row["metrics"]), "")
        said = row["tags"].get("verdict", "")
        print(f"{row['model']:<12}{row['version']:>4}  {', '.join(row['aliases']):<22}{figure:<20}{said}".rstrip())
    return 0


def promote(release: str, *, force: bool, reason: str | None, as_json: bool) -> int:
    """Prints what every gate said; exit code 0. `PromotionRefused` when one refuses and it is not forced with a
    reason."""
    from experiments.offpolicy.gate import Gate
    from serving.commands.evaluate import promotion_gate
    from training.gates import RECORD, Passage, Valued, judge_by, read_bounds, table
    from training.registry import promote as make_champion
    from training.releases import user

    settings = load_settings()
    log: list[Gate] = []

    def value_of(challenger: str, champion: str) -> Valued:
        log.append(gate := promotion_gate(settings)(challenger, champion))
        found = gate.comparison.difference if gate.comparison is not None else None
        figures = (found.value, found.low, found.high) if found is not None else (None, None, None)
        return Valued(gate.passage, gate.sentence, *figures)

    judge = judge_by(read_bounds(settings.home), value_of)
    said: Sequence[Passage] = ()
    try:
        done = make_champion(
            settings.home, release, force=force, reason=reason, who=user(), now=settings.now(), judge=judge
        )
        said = done.gates
        for one in said:
            if one.gate == RECORD:
                print(f"nbo: warning: {one.said}", file=sys.stderr)
    except PromotionRefused as refusal:
        said = refusal.gates
        if said and as_json:
            print(msgspec.json.encode({"release": None, "refused": str(refusal), "gates": said}).decode())
        raise
    except NotFound as error:
        if (error.kind, error.name) != ("release", "challenger"):
            raise
        raise NboError("there is no challenger to promote: run `nbo train`, which registers one") from None
    finally:
        if said and not as_json:
            print("\n".join(table(said)))
    if as_json:
        body = {"release": done.release, "before": done.before, "forced": done.forced, "folder": str(done.folder)}
        print(msgspec.json.encode({**body, "gates": said, "off_policy": log[0] if log else None}).decode())
    elif done.before == done.release:
        print(f"release {done.release} is the champion already")
    else:
        print(f"release {done.release} is the champion now" + (f", after {done.before}" if done.before else ""))
    return 0


def gates(*, as_json: bool) -> int:
    """Prints the bounds in force as a `gates.toml`; exit code 0. `BadSettings` names a bound that is none."""
    from training.gates import as_toml, read_bounds

    bounds = read_bounds(load_settings().home)
    print(msgspec.json.encode(bounds).decode() if as_json else as_toml(bounds), end="\n" if as_json else "")
    return 0


def shadow(release: str | None, *, reason: str | None, as_json: bool) -> int:
    """Exit code 0; `NotFound` if there is no such release."""
    from training.registry import shadow as set_shadow
    from training.releases import user

    settings = load_settings()
    done = set_shadow(settings.home, release, reason=reason, who=user(), now=settings.now())
    if as_json:
        print(msgspec.json.encode({"release": done.release, "before": done.before}).decode())
    elif done.release is None:
        print("there is no shadow" + (f" any more, it was {done.before}" if done.before else ""))
    else:
        share = f"{settings.shadow_share:.0%} of the decisions"
        print(f"release {done.release} is the shadow: it scores {share}, and is shown to nobody")
    return 0


def shadow_report(*, as_json: bool) -> int:
    """How the shadow's answers compare with those that were shown, from the log."""
    from features.sqlite_log import SqliteLog
    from serving.shadowed import compared
    from training.registry import shadow_since

    settings = load_settings()
    log = SqliteLog(settings.home.log_db)
    try:
        found = compared(log)
    finally:
        log.close()
    if as_json:
        print(msgspec.json.encode(found).decode())
        return 0
    if not found:
        standing, at = shadow_since(settings.home)
        if standing is None:
            print("no decision was scored by a shadow yet: run `nbo models shadow RELEASE` and let customers come")
        else:
            print(f"release {standing} is the shadow{f' since {at}' if at else ''}, no decision was scored yet")
    for one in found:
        print(
            f"release {one.release} beside {one.served}: {one.n_decisions:,} decisions, "
            f"{one.n_placements:,} placements; the same first offer in {one.same_first:.1%}; "
            f"mean P(accept) of its own first offers {one.p_own:.4f}, of those shown {one.p_shown:.4f}"
        )
    return 0


def export(release: str, *, as_json: bool) -> int:
    """Exit code 0; `NotFound` if there is no such release."""
    from training.registry import exported

    folder = exported(load_settings().home, release)
    print(msgspec.json.encode({"release": release, "folder": str(folder)}).decode() if as_json else folder)
    return 0
