"""Servers as processes: started, waited for, weighed, and ended with everything they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STARTS_WITHIN_S = 300.0
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    port: int
    process: subprocess.Popen[bytes]

    def rss_mb(self) -> float | None:
        """Of the heaviest of its processes; None where /proc does not exist."""
        weights = [rss for pid in _family(self.process.pid) if (rss := _rss_mb(pid)) is not None]
        return max(weights, default=None)


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, ready: str = "/", port: int | None = None
) -> Iterator[Running]:
    """The server that `command` starts, `{port}` in it filled in; ready once `ready` answers, but for a 5xx."""
    port = port or free_port()
    path = os.pathsep.join((str(BIN), os.environ.get("PATH", "")))  # MLflow looks for uvicorn on it
    told = {**os.environ, "PATH": path, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1", **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.format(port=port) for part in command],
            env=told, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(process, port, ready, log)
        yield Running(port, process)
    finally:
        _end(process)


def empty(workers: int = 1) -> list[str]:
    return [
        str(BIN / "uvicorn"), "bench.empty_app:create_app", "--factory", "--port", "{port}", "--workers", str(workers),
        "--log-level", "warning", "--no-access-log",
    ]  # fmt: skip


def ours(workers: int = 1) -> list[str]:
    return [str(BIN / "nbo"), "serve", "--port", "{port}", "--workers", str(workers)]


def mlflow_serve(model: Path) -> list[str]:
    return [
        str(BIN / "mlflow"), "models", "serve", "-m", str(model), "--env-manager", "local", "-p", "{port}", "-w", "1",
    ]  # fmt: skip


def feast_serve(repository: Path) -> list[str]:
    return [
        str(BIN / "feast"), "-c", str(repository), "serve", "-p", "{port}", "--no-access-log", "--workers", "1",
        "--max-requests", "0",
    ]  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(process: subprocess.Popen[Any], port: int, ready: str, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"a server ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=2.0):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"a server did not answer within {STARTS_WITHIN_S:.0f} s: {log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[Any]) -> None:
    """It leads a session of its own, so that its workers go with it."""
    for how, patience_s in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait(5.0)


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _family(int(child))
    return found


def _rss_mb(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) / 1024 if found else None
