"""One holder at a time: the second is told who, a crash is noticed, and who was taken over knows it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from training.lease import Holder, Lease, take

HOLDING = "import sys, time; from pathlib import Path; from training.lease import take; " \
    "take(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"  # fmt: skip


def test_the_second_is_told_who_holds_it_until_it_is_let_go(tmp_path):
    first = take(tmp_path / "lease")
    assert isinstance(first, Lease)
    assert take(tmp_path / "lease") == first.holder
    assert first.holder.pid == os.getpid()
    first.release()
    again = take(tmp_path / "lease")
    assert isinstance(again, Lease)
    assert again.taken_from is None
    again.release()


def test_of_many_at_once_one_gets_it(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: take(tmp_path / "lease"), range(16)))
    (lease,) = [one for one in found if isinstance(one, Lease)]
    assert all(one == lease.holder for one in found if isinstance(one, Holder))
    lease.release()


def test_a_killed_holder_on_this_machine_is_noticed_at_once(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path / "lease")], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    held = take(tmp_path / "lease")
    assert isinstance(held, Holder)
    assert held.pid == other.pid
    other.kill()
    other.wait()
    other.stdout.close()
    lease = take(tmp_path / "lease")
    assert isinstance(lease, Lease)
    assert lease.taken_from == held
    lease.release()


def held_elsewhere(path, untouched_s):
    """As another host left it: its process id means nothing here."""
    holder = Holder("abc", "elsewhere", 1, "2026-03-04T12:00:00+00:00", "elsewhere boot pid:[1]", "1")
    path.write_bytes(msgspec.json.encode(holder))
    at = time.time() - untouched_s
    os.utime(path, (at, at))
    return holder


def test_another_hosts_lease_is_kept_while_its_heart_beats_and_taken_over_after(tmp_path):
    path = tmp_path / "lease"
    holder = held_elsewhere(path, untouched_s=50)
    assert take(path, stale_s=60) == holder
    held_elsewhere(path, untouched_s=70)
    lease = take(path, stale_s=60)
    assert isinstance(lease, Lease)
    assert lease.taken_from == holder
    lease.release()


def test_a_holder_touches_its_file_and_learns_that_it_was_taken_over(tmp_path):
    path = tmp_path / "lease"
    lease = take(path, beat_s=0.02)
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other = held_elsewhere(path, untouched_s=0)
    while not lease.lost:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lease.release()
    assert take(path) == other  # what is another's is not removed


def test_a_file_that_cannot_be_read_is_nobodys(tmp_path):
    (tmp_path / "lease").write_bytes(b'{"token": "ab')
    lease = take(tmp_path / "lease")
    assert isinstance(lease, Lease)
    lease.release()
    assert not (tmp_path / "lease").exists()
