"""Load over HTTP from a process of its own: a closed loop over some connections, or an open one at a fixed rate.

In an open loop a request belongs to the instant at which it was due, whether or not a connection was free then: its
latency is counted from there, so that a server that stalls is not asked less (no coordinated omission). Run it with
`.venv/bin/python -m bench.load --port N --requests FILE --seconds S [--rate R]`; FILE holds the requests as they go
over the wire, each with its length before it. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

OPEN_CONNECTIONS = 128  # at most; an open loop that needs more is behind anyway
LENGTH = b"content-length:"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--requests", type=Path, required=True)
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--warm-up", type=float, default=1.0, help="seconds before, which do not count")
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--rate", type=float, help="requests per second; without it a closed loop")
    options.add_argument("--seed", type=int, default=0, help="where in the list of requests to begin")
    given = options.parse_args()
    requests = read_requests(given.requests)
    load = Load(given.host, given.port, requests, first=given.seed * 7919 % len(requests))
    gc.disable()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        if given.rate is None:
            found = runner.run(load.closed(given.connections, given.warm_up, given.seconds))
        else:
            found = runner.run(load.open(given.rate, given.warm_up, given.seconds))
    print(json.dumps(found))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest loop there is; None: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in requests))


def read_requests(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def post(path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """One request as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers), "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One request at a time, over one connection that stays open."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.due = 0.0  # when the present request was due
        self._buffer = b""
        self._needed = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods alone

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._needed < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._needed = end + 4 + _content_length(self._buffer[:end])
        if len(self._buffer) >= self._needed:
            answer, self._buffer, self._needed = self._buffer, b"", -1
            self.load.answered(self, answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost(self)


def _content_length(head: bytes) -> int:
    head = head.lower()
    at = head.find(LENGTH)
    if at < 0:
        raise ValueError(f"an answer without content-length: {head[:200]!r}")
    return int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0])


class Load:
    """What is asked, and what came back."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], first: int = 0) -> None:
        self.host, self.port, self.requests = host, port, requests
        self.next = first
        self.latencies: list[float] = []
        self.n_errors = self.n_degraded = self.n_lost = 0
        self.example_of_error = ""
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()  # open loop: when those were due that found no free connection
        self._counted_from = self._until = 0.0
        self._closed_loop = True
        self._n_open = 0

    async def closed(self, connections: int, warm_up_s: float, seconds: float) -> dict[str, float | str]:
        """Every connection asks again as soon as it was answered."""
        await self._connect(connections)
        began = time.perf_counter()
        self._counted_from, self._until = began + warm_up_s, began + warm_up_s + seconds
        for connection in list(self._free):
            self._ask(connection, time.perf_counter())
        await asyncio.sleep(warm_up_s + seconds + 0.2)
        return self._summary(seconds)

    async def open(self, rate: float, warm_up_s: float, seconds: float) -> dict[str, float | str]:
        """`rate` requests a second, at even distances, whatever the server does."""
        self._closed_loop = False
        await self._connect(OPEN_CONNECTIONS)
        began = time.perf_counter()
        self._counted_from, self._until = began + warm_up_s, began + warm_up_s + seconds
        n, total = 0, int(rate * (warm_up_s + seconds))
        while n < total:
            now = time.perf_counter()
            while n < total and (due := began + n / rate) <= now:
                if self._free:
                    self._ask(self._free.popleft(), due)
                else:
                    self._waiting.append(due)
                n += 1
            await asyncio.sleep(max(began + n / rate - time.perf_counter(), 0.0))
        patience = time.perf_counter() + 10.0
        while (self._waiting or len(self._free) < self._n_open) and time.perf_counter() < patience:
            await asyncio.sleep(0.01)
        self.n_lost += len(self._waiting) + self._n_open - len(self._free)
        return self._summary(seconds)

    def answered(self, connection: Connection, answer: bytes) -> None:
        now = time.perf_counter()
        if self._counted_from <= (now if self._closed_loop else connection.due) < self._until:
            self.latencies.append(now - connection.due)
            if answer[9:10] != b"2":
                self.n_errors += 1
                self.example_of_error = answer[:500].decode(errors="replace")
            elif b'"degraded":[{' in answer:
                self.n_degraded += 1
        if self._closed_loop:
            if now < self._until:
                self._ask(connection, now)
        elif self._waiting:
            self._ask(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: Connection) -> None:
        """The server closed it."""
        self._n_open -= 1
        self.n_lost += 1

    def _ask(self, connection: Connection, due: float) -> None:
        request = self.requests[self.next]
        self.next = (self.next + 1) % len(self.requests)
        connection.send(request, due)

    async def _connect(self, n: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(n):
            _, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
            self._free.append(connection)
        self._n_open = n

    def _summary(self, seconds: float) -> dict[str, float | str]:
        n = len(self.latencies)
        if not n:
            return {"n": 0, "rps": 0.0, "errors": self.n_errors, "lost": self.n_lost, "example": self.example_of_error}
        of = np.array(self.latencies) * 1000.0
        p50, p99, p999 = np.percentile(of, [50, 99, 99.9])
        return {
            "n": n,
            "rps": n / seconds,
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "p999_ms": float(p999),
            "max_ms": float(of.max()),
            "over_50_ms": float((of > 50.0).mean()),
            "errors": self.n_errors,
            "degraded": self.n_degraded,
            "lost": self.n_lost,
            "example": self.example_of_error,
        }


if __name__ == "__main__":
    main()
