"""The way back: which release it leads to, what it checks first, and what the history says afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest

from features.errors import BrokenRelease, Conflict, NotFound, PromotionRefused
from features.home import Home
from tests.conftest import NOW
from tests.serving.releases import write_release
from training import releases
from training.releases import (
    MENDED,
    RolledBack,
    alias_history,
    champion_at,
    champion_of,
    point,
    pointer_lock,
    remember,
    roll_back,
)
from training.scorers import digest, load_champion, read_pointer


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def promoted(home, *numbers, hour=0):
    """These releases, one after the other, an hour apart, as promotions leave them."""
    for n, number in enumerate(numbers):
        folder = write_release(home.releases, number, {"a": 1.0}, champion=False)
        sha256 = digest((folder / "manifest.json").read_bytes())
        with pointer_lock(home):
            before = champion_of(home)
            point(home, "champion", number, sha256)
            remember(home, before, number, "ada", None, NOW + timedelta(hours=hour + n), sha256=sha256)
    return home


def test_the_champion_before_this_one_serves_again_and_the_history_says_who_and_why(home):
    promoted(home, "1", "2")
    later = NOW + timedelta(days=1)
    assert roll_back(home, reason="dismissals doubled", who="ben", now=later) == RolledBack("1", "2")
    assert load_champion(home.releases).number == "1"
    last = alias_history(home)[-1]
    assert {k: last[k] for k in ("kind", "from", "to", "who", "why", "at", "forced")} == {
        "kind": "rollback", "from": "2", "to": "1", "who": "ben", "why": "dismissals doubled",
        "at": later.isoformat(), "forced": False,
    }  # fmt: skip


def test_going_back_twice_goes_two_steps_back(home):
    promoted(home, "1", "2", "3")
    assert [roll_back(home).release for _ in range(2)] == ["2", "1"]
    with pytest.raises(NotFound, match="there is no champion before release '1'"):
        roll_back(home)
    promoted(home, "4", hour=10)
    assert roll_back(home).release == "1"


def test_a_release_that_was_promoted_again_is_gone_back_from_to_the_one_before(home):
    promoted(home, "1", "2", "1")
    assert [roll_back(home).release for _ in range(2)] == ["2", "1"]


def test_one_may_go_back_to_any_former_champion_and_to_no_other(home):
    promoted(home, "1", "2", "3")
    write_release(home.releases, "4", {"a": 1.0}, champion=False)
    assert roll_back(home, "1").release == "1"
    assert roll_back(home, "3").release == "3"  # and forth
    with pytest.raises(PromotionRefused, match="release 4 was never champion"):
        roll_back(home, "4")
    assert champion_of(home) == "3"


def test_nothing_that_was_never_promoted_is_gone_back_from(home):
    with pytest.raises(NotFound, match="'champion'"):
        roll_back(home)


def test_who_was_champion_at_a_moment(home):
    promoted(home, "1", "2")
    roll_back(home, now=NOW + timedelta(hours=5))
    asked = [timedelta(hours=h) for h in (-1, 0, 0.9, 1, 4.9, 5, 99)]
    found = [champion_at(home, NOW + hours) for hours in asked]
    assert [one and one["to"] for one in found] == [None, "1", "1", "2", "2", "1", "1"]


@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing", "other manifest"])
def test_files_that_are_not_what_was_promoted_are_exported_anew_before_they_serve(home, monkeypatch, harm):
    promoted(home, "1", "2")
    file = home.releases / "1" / ("manifest.json" if harm == "other manifest" else "popularity/scores.npy")
    body = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        flipped = body[:-1] + bytes([body[-1] ^ 1])
        file.write_bytes({"truncated": body[:-2], "flipped": flipped, "other manifest": body + b"\n"}[harm])

    def again(home, number):
        file.write_bytes(body)
        return digest((home.releases / number / "manifest.json").read_bytes())

    monkeypatch.setattr("training.registry.exported_digest", again)
    assert roll_back(home).release == "1"
    assert load_champion(home.releases).number == "1"


def test_a_release_that_is_broken_and_not_registered_is_refused_and_the_champion_goes_on(home, monkeypatch):
    promoted(home, "1", "2")
    (home.releases / "1" / "offers.json").write_bytes(b"[]")

    def gone(home, number):
        raise NotFound("release", number)

    monkeypatch.setattr("training.registry.exported_digest", gone)
    with pytest.raises(NotFound):
        roll_back(home)
    assert load_champion(home.releases).number == "2"
    assert len(alias_history(home)) == 2


def test_a_release_of_before_digests_were_kept_is_held_to_its_own(home):
    write_release(home.releases, "1", {"a": 1.0})
    write_release(home.releases, "2", {"a": 1.0})
    lines = [{"at": NOW.isoformat(), "alias": "champion", "from": f, "to": t, "who": "a", "why": None, "forced": False}
             for f, t in ((None, "1"), ("1", "2"))]  # fmt: skip
    (home.releases / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert roll_back(home).release == "1"


def test_a_pointer_that_moved_without_a_line_is_written_down_by_the_next_who_comes(home):
    """As after a crash between the two."""
    promoted(home, "1")
    write_release(home.releases, "2", {"a": 1.0})
    assert roll_back(home, now=NOW + timedelta(days=1)) == RolledBack("1", "2")
    assert [(line["kind"], line["from"], line["to"]) for line in alias_history(home)] == [
        ("promotion", None, "1"), ("found", "1", "2"), ("rollback", "2", "1"),
    ]  # fmt: skip
    assert alias_history(home)[1]["why"] == MENDED


@pytest.mark.parametrize("pointer", [b"", b'{"release": "2"', b"null"])
def test_half_a_pointer_is_gone_back_from_too(home, pointer):
    promoted(home, "1", "2")
    (home.releases / "champion.json").write_bytes(pointer)
    with pytest.raises(BrokenRelease):
        read_pointer(home.releases)
    assert roll_back(home) == RolledBack("1", "2")
    assert load_champion(home.releases).number == "1"


def test_half_a_line_of_history_is_left_out_and_stays_alone(home):
    promoted(home, "1")
    with (home.releases / "history.jsonl").open("ab") as history:
        history.write(b'{"at": "2026-03-04T13')
    promoted(home, "2", hour=2)
    assert [line["to"] for line in alias_history(home)] == ["1", "2"]


def test_who_is_quicker_wins_and_the_other_is_told(home, monkeypatch):
    promoted(home, "1", "2")
    check = releases.check_files

    def slowly(*given):
        promoted(home, "3", hour=5)
        return check(*given)

    monkeypatch.setattr(releases, "check_files", slowly)
    with pytest.raises(Conflict, match="release 3 became champion meanwhile"):
        roll_back(home)
    assert champion_of(home) == "3"


def test_of_many_at_once_the_history_holds_every_step(home):
    promoted(home, *"12345678")
    done = []

    def back(_):
        with suppress(Conflict):
            done.append(roll_back(home))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(back, range(8)))
    steps = [(line["from"], line["to"]) for line in alias_history(home) if line["kind"] == "rollback"]
    assert sorted(steps) == sorted((one.before, one.release) for one in done)
    assert all(first[1] == second[0] for first, second in pairwise(steps))
    assert champion_of(home) == steps[-1][1]


def test_going_back_loads_no_mlflow_and_no_training_library():
    heavy = ("mlflow", "pandas", "sklearn", "lightfm", "duckdb", "numba", "numpy")
    code = f"import sys, serving.commands.models_history; print(*[m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
