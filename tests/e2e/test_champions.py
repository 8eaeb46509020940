"""From challenger to champion and back while customers are answered; a broken release does nothing to them."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection

import pytest

from features.catalogue import Placement
from features.errors import PromotionRefused, StoreUnavailable
from features.facts import Facts
from features.home import Home
from serving.commands import models
from tests.e2e.conftest import NBO, serving
from tests.serving.conftest import an_offer
from tests.serving.releases import point_to, write_release
from tests.training.test_registry import register
from training import registry
from training.releases import alias_history
from training.scorers import digest, read_pointer
from training.tracking import tracking

HERO = [{"placement_id": "hero", "limit": 3}]
ASK = {"customer_id": "c-1", "placements": HERO, "dry_run": True, "deadline_ms": 5_000}  # this machine may be busy
PAUSE_S = 0.01
BACK_WITHIN_S = 5.0
GATES = "".join(f"[{name}]\nenabled = false\n" for name in ("coverage", "latency", "size"))  # measured elsewhere
pytestmark = pytest.mark.timeout(900)  # most of it is MLflow's, which takes its time on a busy machine
OFFERS = ("o0", "o1", "o2")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two workers that answer with release 1; 2 is as good as it, 3 ranks worse, 4 has no acceptance model."""
    root = tmp_path_factory.mktemp("champions") / "home"
    home = Home(root)
    with tracking(home) as client:
        same = {"acceptance": "1", "churn": "1"}
        register(client)
        register(client, known=same)
        register(client, known=same, ndcg=0.2)
        assert register(client, known={**same, "recommender": "1"}, acceptance=False) == "4"
    facts = Facts(home.facts_db)
    for item in (Placement(placement_id="hero", name="hero", channel="web"), *(an_offer(name) for name in OFFERS)):
        facts.put(item, datetime.now(UTC))
    facts.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBO_HOME", str(root))
        (root / "gates.toml").write_text(GATES)
        models.promote("1", force=False, reason=None, as_json=False)
        with serving(root, workers=2) as service:
            service.home = home
            yield service


class Customers:
    """Threads that ask again and again, each time on a connection of its own, so that every worker gets some."""

    def __init__(self, service, n=2):
        self.seen = []  # (when it was answered, status, answer)
        self._service, self._end = service, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(n)]

    def _ask(self):
        while not self._end.is_set():
            try:
                status, answer = self._one()
            except Exception as error:
                status, answer = 0, repr(error)
            self.seen.append((time.monotonic(), status, answer))
            time.sleep(PAUSE_S)

    def _one(self):
        """By the standard library: a client of httpx takes longer to make than its answer."""
        host, port = self._service.url.removeprefix("http://").split(":")
        connection = HTTPConnection(host, int(port), timeout=30)
        headers = {"Authorization": f"Bearer {self._service.key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/decisions", json.dumps(ASK), headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *given):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def releases(self, since=0.0):
        return [answer["model_versions"]["release"] for at, _, answer in self.seen if at >= since]

    def wait_for(self, release, of=20):
        """Until the last `of` answers are of this release."""
        deadline = time.monotonic() + 60
        while self.releases()[-of:] != [release] * of:
            assert time.monotonic() < deadline, self.seen[-1]
            time.sleep(0.01)

    def check(self):
        """No error, nothing degraded, and every release answers with its own versions and figures alone."""
        assert {status for _, status, _ in self.seen} == {200}
        degraded = {one["code"] for _, _, answer in self.seen for one in answer["degraded"]}
        assert degraded <= {"features_unavailable"}, degraded  # nothing was materialized here
        said = {}
        for _, _, answer in self.seen:
            versions = answer["model_versions"]
            figures = tuple(sorted((o["offer_id"], o["p_accept"]) for o in answer["placements"][0]["offers"]))
            said.setdefault(versions["release"], set()).add((tuple(sorted(versions.items(), key=str)), figures))
        assert all(len(one) == 1 for one in said.values()), said


def test_a_promotion_is_refused_one_is_made_and_one_is_taken_back_while_customers_are_answered(
    shop, capsys, record_property
):
    with Customers(shop) as customers:
        customers.wait_for("1")
        with pytest.raises(PromotionRefused, match=r"release 3: ranking: NDCG@10 0\.2000, champion 0\.3000"):
            models.promote("3", force=False, reason=None, as_json=False)
        assert re.search(r"ranking +refused +-0\.1 +0 ", capsys.readouterr().out)
        assert set(customers.releases()) == {"1"}
        models.promote("2", force=False, reason="as good, and newer", as_json=True)
        gates = {one["gate"]: one["passage"] for one in json.loads(capsys.readouterr().out)["gates"]}
        assert (gates["ranking"], gates["latency"]) == ("passed", "not asked")
        customers.wait_for("2")
        began = time.monotonic()
        command = [NBO, "models", "rollback", "--reason", "for the test"]
        back = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
        customers.wait_for("1")
        out, err = back.communicate(timeout=120)
    assert back.returncode == 0, err
    assert out.startswith(b"release 1 is the champion again, after 2")
    customers.check()
    last = max(at for at, _, answer in customers.seen if answer["model_versions"]["release"] == "2")
    record_property("rollback_s", round(last - began, 2))
    print(f"\nfrom the command's start to the last answer of the release before: {last - began:.2f} s")
    assert last - began < BACK_WITHIN_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others share it
    lines = [(line["kind"], line["from"], line["to"], line["why"]) for line in alias_history(shop.home)]
    assert lines == [
        ("promotion", None, "1", None), ("promotion", "1", "2", "as good, and newer"),
        ("rollback", "2", "1", "for the test"),
    ]  # fmt: skip
    with tracking(shop.home) as client:
        assert registry.alias_of(client, "release", "champion") == "1"  # MLflow has followed


def readiness(service):
    with service.client() as client:
        return {one["name"]: one for one in client.get("/readyz").json()["checks"]}


@contextmanager
def still_answered_by_release_1(service):
    """Customers are answered by release 1 before, throughout and after."""
    with Customers(service) as customers:
        customers.wait_for("1", of=4)
        yield customers
        time.sleep(0.6)  # three looks of every worker
    customers.check()
    assert set(customers.releases()) == {"1"}


@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing", "half a manifest", "half a pointer", "no folder"])
def test_a_broken_or_half_written_release_is_refused_and_the_old_one_goes_on(shop, harm):
    releases = shop.home.releases
    good = read_pointer(releases)
    folder = write_release(releases, f"bad-{harm.replace(' ', '-')}", dict.fromkeys(OFFERS, 1.0), champion=False)
    manifest, array = folder / "manifest.json", folder / "popularity" / "scores.npy"
    sha256, body = digest(manifest.read_bytes()), array.read_bytes()
    match harm:
        case "truncated":
            array.write_bytes(body[: len(body) // 2])
        case "flipped":
            array.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        case "missing":
            array.unlink()
        case "half a manifest":
            manifest.write_bytes(manifest.read_bytes()[:100])
    with still_answered_by_release_1(shop):
        if harm == "half a pointer":
            (releases / "champion.json").write_bytes(b'{"release": "2", "sha')
        else:
            point_to(releases, "gone" if harm == "no folder" else folder.name, sha256)
        deadline = time.monotonic() + 30
        found = readiness(shop)["release"]
        while found["ok"]:
            assert time.monotonic() < deadline
            found = readiness(shop)["release"]
        assert "the champion is refused" in found["detail"]  # of the same answer: another worker may not know yet
        point_to(releases, good.release, good.sha256)
    while not readiness(shop)["release"]["ok"]:
        assert time.monotonic() < deadline


SLOW = """
import sys, time
from pathlib import Path
from features.home import Home
from training import registry
home = Home(Path(sys.argv[1]))
folder, write = home.releases / "1", registry.write_through
def slowly(path, body):
    write(path, body[: len(body) // 2])
    print("writing", flush=True)
    time.sleep(60)
def read(*given):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
registry.write_through, registry.release_files = slowly, read
registry.export(None, home, "4", None, b"")
"""


def test_an_export_that_is_killed_leaves_the_champion_and_the_next_one_starts_afresh(shop):
    with still_answered_by_release_1(shop):
        export = subprocess.Popen([sys.executable, "-c", SLOW, str(shop.home.root)], stdout=subprocess.PIPE)
        assert export.stdout.readline() == b"writing\n"
        export.send_signal(signal.SIGKILL)
        export.wait()
        export.stdout.close()
        assert (shop.home.releases / "4.tmp").exists()
        assert read_pointer(shop.home.releases).release == "1"
    folder = registry.exported(shop.home, "4")
    assert (folder / "manifest.json").exists()
    assert not list(shop.home.releases.glob("*.tmp"))


def test_a_full_disk_refuses_the_promotion_and_leaves_nothing_behind(shop, monkeypatch):
    def on_a_full_disk(path, body):
        """As the kernel refuses it, half way."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(body) // 2, hard))
        try:
            write(path, body)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    write = registry.write_through
    monkeypatch.setattr(registry, "write_through", on_a_full_disk)
    before = alias_history(shop.home)
    shutil.rmtree(shop.home.releases / "3")  # it was exported before the gates refused it
    with still_answered_by_release_1(shop), pytest.raises(StoreUnavailable, match="cannot be written"):
        registry.promote(shop.home, "3", force=True, reason="a test")
    assert not list(shop.home.releases.glob("*.tmp"))
    assert alias_history(shop.home) == before
