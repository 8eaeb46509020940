"""What every store of idempotent answers promises; SQLite is the first."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import IdempotencyConflict
from serving.state.idempotency import Claim, Idempotency, Kept, Scope, digest_of

START = datetime(2026, 3, 1, tzinfo=UTC)
SCOPE = Scope("sk_1", "c-1", "k")
BODY, OTHER = digest_of({"a": 1}), digest_of({"a": 2})
ANSWER = Kept(b"answer", b"record")
STORES = (Idempotency,)


@pytest.fixture(params=STORES, ids=lambda store: store.__name__)
def open_store(request, tmp_path):
    opened = []

    def make(now=START, lease_s=10.0):
        clock = [now]
        store = request.param(tmp_path / "state.db", lambda: clock[0], lease_s)
        store.clock_hand = clock
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def once():
    return lambda store, scope=SCOPE, digest=BODY, make=lambda: ANSWER: asyncio.run(
        store.once(scope, digest, later(make))
    )


def later(make):
    async def made():
        return make()

    return made


def never():
    raise AssertionError("a kept answer is not made again")


def test_the_first_answer_is_made_and_every_later_one_is_the_first(open_store, once):
    store = open_store()
    assert once(store) == ANSWER._replace(replayed=False)
    assert once(store, make=never) == ANSWER
    assert once(open_store(), make=never) == ANSWER  # another worker


def test_another_body_is_a_conflict_answered_or_not(open_store, once):
    store = open_store()
    claim = store.claim(SCOPE, BODY)
    with pytest.raises(IdempotencyConflict):
        store.claim(SCOPE, OTHER)
    store.settle(claim, ANSWER)
    with pytest.raises(IdempotencyConflict):
        once(store, digest=OTHER)


@pytest.mark.parametrize("other", [Scope("sk_2", "c-1", "k"), Scope("sk_1", "c-2", "k"), Scope("sk_1", "c-1", "K")])
def test_another_scope_is_another_answer(open_store, once, other):
    store = open_store()
    once(store)
    assert once(store, scope=other, digest=OTHER, make=lambda: Kept(b"second", b"")).answer == b"second"


def test_an_answer_is_kept_for_24_hours(open_store, once):
    store = open_store()
    once(store)
    store.clock_hand[0] = START + timedelta(hours=24) - timedelta(microseconds=1)
    assert once(store, make=never) == ANSWER
    store.clock_hand[0] = START + timedelta(hours=24)
    assert once(store, digest=OTHER, make=lambda: Kept(b"second", b"")).answer == b"second"


def test_while_one_works_the_others_wait_and_get_its_answer(open_store):
    first, second = open_store(), open_store()
    claim = first.claim(SCOPE, BODY)
    assert second.claim(SCOPE, BODY) is None

    async def both():
        waiting = asyncio.create_task(second.once(SCOPE, BODY, later(never)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        first.settle(claim, ANSWER)
        return await waiting

    assert asyncio.run(both()) == ANSWER


def test_what_making_raises_is_raised_and_the_scope_is_free_again(open_store, once):
    store = open_store()

    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        once(store, make=fails)
    assert once(store).answer == ANSWER.answer
    with pytest.raises(IdempotencyConflict):
        once(store, digest=OTHER)


def test_a_holder_that_takes_too_long_is_taken_over_and_the_first_settled_answer_counts(open_store):
    slow, quick = open_store(lease_s=0.05), open_store(lease_s=0.05)
    lost = slow.claim(SCOPE, BODY)
    time.sleep(0.06)
    taken = quick.claim(SCOPE, BODY)
    assert isinstance(taken, Claim)
    assert quick.settle(taken, ANSWER) == ANSWER._replace(replayed=False)
    assert slow.settle(lost, Kept(b"late", b"")) == ANSWER


def test_a_slow_holder_that_settles_first_after_all_wins(open_store):
    slow, quick = open_store(lease_s=0.05), open_store(lease_s=0.05)
    lost = slow.claim(SCOPE, BODY)
    time.sleep(0.06)
    taken = quick.claim(SCOPE, BODY)
    assert slow.settle(lost, ANSWER) == ANSWER._replace(replayed=False)
    assert quick.settle(taken, Kept(b"late", b"")) == ANSWER


def test_giving_back_a_claim_that_was_taken_over_frees_nothing(open_store):
    slow, quick = open_store(lease_s=0.05), open_store(lease_s=0.05)
    lost = slow.claim(SCOPE, BODY)
    time.sleep(0.06)
    taken = quick.claim(SCOPE, BODY)
    slow.release(lost)
    quick.settle(taken, ANSWER)
    slow.release(lost)
    assert slow.claim(SCOPE, BODY) == ANSWER


def _claim_and_hang(path, claimed):
    Idempotency(path, lambda: START).claim(SCOPE, BODY)
    claimed.set()
    time.sleep(60)


def test_a_holder_that_was_killed_is_taken_over_at_once(open_store, once, tmp_path):
    context = multiprocessing.get_context("spawn")
    claimed = context.Event()
    holder = context.Process(target=_claim_and_hang, args=(tmp_path / "state.db", claimed))
    holder.start()
    assert claimed.wait(30)
    store = open_store()
    assert store.claim(SCOPE, BODY) is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    begun = time.monotonic()
    assert once(store).answer == ANSWER.answer
    assert time.monotonic() - begun < 5


def _ask_many(path, worker, n_keys, answers):
    store = Idempotency(path, lambda: START)
    made = {}

    async def ask():
        for i in range(n_keys):
            kept = await store.once(
                Scope("sk", "c", f"k{i}"), BODY, later(lambda i=i: Kept(f"{worker} {i}".encode(), b""))
            )
            made[i] = kept.answer

    asyncio.run(ask())
    store.close()
    answers.put(made)


def test_processes_that_ask_at_once_agree_on_every_answer(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    workers = [context.Process(target=_ask_many, args=(tmp_path / "state.db", w, 100, answers)) for w in range(3)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 100


def test_many_may_open_a_new_store_at_the_same_moment(open_store):
    stores, start, failed = [open_store() for _ in range(8)], Barrier(8), []

    def first_use(store, i):
        start.wait()
        try:
            store.claim(Scope("sk", "c", str(i)), BODY)
        except Exception as error:
            failed.append(error)

    threads = [Thread(target=first_use, args=(store, i)) for i, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text() | st.none()))
def test_the_order_of_keys_does_not_change_a_digest(body):
    assert digest_of(body) == digest_of(dict(reversed(body.items())))
