"""`nbo serve`: the service on an address, with keys made at the first start."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.policies import policy_named
from serving.settings import Settings, load_settings


def run(host: str, port: int, workers: int, admin_port: int | None = None) -> int:
    """Serve until interrupted; 0, or 1 when the address is taken. `BadSettings` before anything starts."""
    settings = load_settings()
    policy_named(settings.policy)
    # Workers are new processes: they read the same settings, and their set clocks tick from the same start.
    os.environ["NBO_HOME"] = str(settings.home.root)
    os.environ.setdefault("NBO_SERVE_STARTED", repr(time.time()))
    wanted = [port] if admin_port is None else [port, admin_port]
    listening: list[socket.socket] = []
    for one in wanted:
        try:
            listening.append(_listen(host, one))
        except OSError as error:
            print(f"nbo: {host}:{one} cannot be listened on: {error.strerror}", file=sys.stderr)
            return 1
    _make_keys(settings)
    _say(f"serving on {_address(host, listening[0])} (docs at /docs), state in {settings.home.root}")
    with ExitStack() as stack:
        if admin_port is not None:
            stack.enter_context(_watched(listening[1], workers, settings))
            _say(f"metrics on {_address(host, listening[1])}/metrics")
        _serve(listening[0], workers)
    return 0


@contextmanager
def _watched(listening: socket.socket, workers: int, settings: Settings) -> Iterator[None]:
    """With an admin port, which reads what workers write into a folder for as long as they run."""
    from serving.admin import Admin

    with TemporaryDirectory(prefix="nbo-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ["NBO_METRICS_FOLDER"] = folder
        admin = Admin(Path(folder), listening, workers, settings.home)
        admin.start()
        try:
            yield
        finally:
            admin.close()
            del os.environ["NBO_METRICS_FOLDER"]


def _say(text: str) -> None:
    print(f"nbo: {text}", file=sys.stderr, flush=True)


def _address(host: str, listening: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


def _serve(listening: socket.socket, workers: int) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from serving.arrival import Arriving

    config = uvicorn.Config(
        "serving.app:from_settings",
        factory=True,
        workers=workers,
        http=Arriving,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again once it has shut down; asked to end, we have ended, which is exit code 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt):
        if workers == 1:
            server.run(sockets=[listening])
        else:
            Multiprocess(config, sockets=[listening]).run()
    if workers == 1 and not server.started:
        sys.exit(1)


def _listen(host: str, port: int) -> socket.socket:
    """Bound and listening: who connects from now on waits for the workers instead of being refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    listening.set_inheritable(True)
    return listening


def _make_keys(settings: Settings) -> None:
    from serving.keys import Keys

    keys = Keys(settings.home.facts_db)
    made = keys.first_start(settings.now())
    keys.close()
    if made is not None:
        secret, public = made
        print(
            f"nbo: made at this first start, shown only now\n  secret key: {secret}\n  public key: {public}", flush=True
        )
