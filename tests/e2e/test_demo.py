"""`nbo demo` as a stranger runs it: a real process, real models, a real service."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

NBO = [sys.executable, "-c", "from serving.cli import main; main()"]


def processes_naming(text: str) -> list[str]:
    """Command lines of running processes whose environment or arguments hold the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in words and path.name != str(os.getpid()):
            found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.timeout(300)
def test_smoke_prints_one_decision_alone_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([*NBO, "demo", "--smoke"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    decision = json.loads(done.stdout)
    assert decision["customer_id"] == "c-00001"
    (placement,) = decision["placements"]
    (offer,) = placement["offers"]
    assert 0 < offer["selection_probability"] <= 1
    assert 0 < offer["p_accept"] < 1
    assert offer["score"] == pytest.approx(offer["p_accept"] * offer["value"])
    assert not offer["is_fallback"]
    assert decision["degraded"] == []
    assert all(decision["model_versions"].values()), decision["model_versions"]
    assert list(tmp_path.iterdir()) == []
    assert processes_naming(str(tmp_path)) == []


@pytest.mark.timeout(120)
def test_ctrl_c_in_the_middle_ends_everything(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*NBO, "demo"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if "events happened" in line:
                break
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=100)
    assert child.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert processes_naming(str(tmp_path)) == []
