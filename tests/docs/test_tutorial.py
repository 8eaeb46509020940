"""The tutorial, run as it stands: every command of its console blocks, in one shell."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def script(page: Path, port: int) -> str:
    """The page's commands; a service in the background ends with the shell."""
    commands = "".join(BLOCK.findall(page.read_text()))
    lines = [line.removeprefix("$ ") for line in commands.splitlines()]
    body = "\n".join(lines).replace("8000", str(port))
    return f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n{body}\n"


@pytest.mark.timeout(240)
def test_the_tutorial_works_as_it_is_written(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NBO_")}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    page = ROOT / "docs/tutorial/first-decision.md"
    done = subprocess.run(
        ["bash", "-c", script(page, port)], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"code":"model_unavailable"' in done.stdout
    assert '"accepted":1' in done.stdout
    assert '"event_id":"live-1"' in done.stdout
    assert "1 live events and 1 decisions were added to the lake" in done.stdout
