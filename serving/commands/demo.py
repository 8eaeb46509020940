"""`nbo demo`: a simulated shop, end to end."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path
from types import FrameType

from features.errors import BadInput
from features.home import Home


def run(smoke: bool = False, keep: Path | None = None, visits: int | None = None) -> int:
    """The exit code: 0 when it was shown, 130 when interrupted before there was anything to see."""
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before NumPy is loaded
        os.environ.setdefault(threads, "1")  # a small shop's matrices cost more to share out than to work on
    from serving.demo.story import tell

    noted = threading.Event()
    _note_endings(noted)
    try:
        if keep is not None:
            return tell(Home(_made(keep.expanduser().absolute())), smoke=smoke, n_visits=visits, kept=True, noted=noted)
        with tempfile.TemporaryDirectory(prefix="nbo-demo-", ignore_cleanup_errors=True) as folder:
            return tell(Home(Path(folder)), smoke=smoke, n_visits=visits, kept=False, noted=noted)
    except KeyboardInterrupt:
        return 130


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--keep is {folder}, which cannot be made a folder: {error.strerror}", "keep") from None
    return folder


def _note_endings(noted: threading.Event) -> None:
    """Ends what we started on Ctrl-C, SIGTERM and SIGHUP. Noted too: an import that is under way may swallow it."""
    on_ctrl_c = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: FrameType | None) -> None:
        noted.set()
        if callable(on_ctrl_c):
            on_ctrl_c(number, frame)
        raise KeyboardInterrupt

    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, end)
