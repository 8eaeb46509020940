"""The real service: `nbo serve` as a subprocess on a free port, with its own NBO_HOME."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

NBO = Path(sys.executable).parent / "nbo"
START_S = 180.0  # on a new machine the loops over offers are compiled first
PATIENCE_S = 1.0  # a change of the catalogue is live in every worker within a second


@dataclass
class Served:
    """A running service and its first secret key."""

    process: subprocess.Popen[bytes]
    url: str
    key: str

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}", **headers}, timeout=30, verify=False
        )

    def kill(self) -> None:
        """No warning, no clean-up, and no worker left over."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(home: Path, workers: int = 1, *options: str, **environment: str) -> Iterator[Served]:
    """`nbo serve` until the block ends; its output is in `<home>.out` and `<home>.err`."""
    port = free_port()
    out, err = home.with_suffix(".out"), home.with_suffix(".err")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NBO_")}
    with out.open("ab") as stdout, err.open("ab") as stderr:
        process = subprocess.Popen(
            [NBO, "serve", "--port", str(port), "--workers", str(workers), *options],
            env=clean | {"NBO_HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url, err)
        found = re.search(r"sk_\S+", out.read_text())
        assert found is not None, "the first start prints a secret key on stdout"
        yield Served(process, url, found.group())
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, err: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, err.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"not ready after {START_S} s: {err.read_text()}")


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def served(request, tmp_path_factory) -> Iterator[Served]:
    """A service with two offers and a placement in its catalogue."""
    with serving(tmp_path_factory.mktemp("e2e") / "home", request.param) as service:
        with service.client() as client:
            for name, value in (("o-1", 10.0), ("o-2", 20.0)):
                treatment = {"treatment_id": f"{name}/a", "payload": {"title": name}}
                offer = {"name": name, "value": value, "status": "approved", "category": "c", "treatments": [treatment]}
                assert client.put(f"/v1/offers/{name}", json=offer).status_code == 201
            assert client.put("/v1/placements/hero", json={"name": "hero", "channel": "web"}).status_code == 201
        time.sleep(PATIENCE_S)
        yield service
