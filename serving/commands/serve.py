"""`nbo serve`: the service on an address, with keys made at the first start."""

from __future__ import annotations

import os
import socket
import sys
import time

from serving.settings import Settings, load_settings


def run(host: str, port: int, workers: int) -> int:
    """Serve until interrupted. The exit code: 0, or 1 when the address is taken."""
    settings = load_settings()
    # Workers are new processes: they read the same settings, and their set clocks tick from the same start.
    os.environ["NBO_HOME"] = str(settings.home.root)
    os.environ.setdefault("NBO_SERVE_STARTED", repr(time.time()))
    try:
        port = _free(host, port)
    except OSError as error:
        print(f"nbo: {host}:{port} cannot be listened on: {error.strerror}", file=sys.stderr)
        return 1
    _make_keys(settings)
    print(f"nbo: serving on http://{host}:{port} (docs at /docs), state in {settings.home.root}", file=sys.stderr)

    import uvicorn

    uvicorn.run(
        "serving.app:from_settings",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    return 0


def _free(host: str, port: int) -> int:
    """The port itself if it can be bound now, any free one for 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


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
