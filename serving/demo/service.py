"""`nbo serve` as a child process: started on a free port, waited for, and ended with everything it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from features.errors import StoreUnavailable
from features.home import Home

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 15.0


@contextmanager
def running_service(home: Home, log: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of a service that is ready to answer. Its own output goes to the file `log`; `settings` are
    variables of its environment beside ours."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", "from serving.cli import main; main()", "serve", "--port", url.rpartition(":")[2]]
    environ = {**os.environ, **(settings or {}), "NBO_HOME": str(home.root)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        # a session of its own: Ctrl-C reaches us alone, and we end it in order
        child = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait_until_ready(url, child, log)
            yield url
        finally:
            _stop(child)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=2.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    how = f"ended with {child.returncode}" if child.returncode is not None else f"not ready in {READY_WITHIN_S:.0f} s"
    raise StoreUnavailable(f"nbo serve: {how}; its last words: {log.read_text().strip()[-2_000:] or 'none'}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask, wait, then end the whole session."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(STOPPED_WITHIN_S)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
