"""Takes a share of every processor away, as the host of a virtual machine does: in bursts, and ahead of everybody else.

Each processor has a process of its own, which spins for 2 to 20 ms at a time and sleeps in between; with the priority
of real time where this user may ask for it, else with that of others, who then share. The same seeds make the same
bursts, so that what a service does under theft can be measured again.
`.venv/bin/python -m bench.thief SHARE` takes it from one processor, `--core`, until it is ended.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SHORTEST_S, LONGEST_S = 0.002, 0.02
PRIORITY = 50  # of SCHED_FIFO


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("share", type=float)
    options.add_argument("--core", type=int, default=0)
    given = options.parse_args()
    os.sched_setaffinity(0, {given.core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        print("this thief has no priority: others share with it", file=sys.stderr)
    steal(given.share, random.Random(given.core))


def steal(share: float, rng: random.Random) -> None:
    """Spins for `share` of the time, in [0, 1); does not return."""
    while True:
        burst_s = rng.uniform(SHORTEST_S, LONGEST_S)
        until = time.perf_counter() + burst_s
        while time.perf_counter() < until:
            pass
        time.sleep(burst_s * (1.0 - share) / share)


@contextmanager
def thieves(share: float) -> Iterator[None]:
    """One on each processor that this process may use; none for a share of 0."""
    cores = sorted(os.sched_getaffinity(0)) if share else []
    command = [sys.executable, "-m", "bench.thief", str(share), "--core"]
    started = [subprocess.Popen([*command, str(core)]) for core in cores]
    try:
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()


if __name__ == "__main__":
    main()
