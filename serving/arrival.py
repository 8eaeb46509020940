"""When a question arrived, by the kernel's account: a deadline runs while the event loop is busy with others, too."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ARRIVED = "arrived"  # in the state of a request's scope: when the last of its body came, of the monotonic clock
TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)  # Linux
LAST_DATA_RECEIVED_AT, LONG_ENOUGH = 52, 56  # in bytes; the fields before it are fixed. Source: linux/tcp.h, tcp_info
TICK_S = 0.004  # the kernel counts in ticks, so that what has just come may seem to be so old


class Arriving(HttpToolsProtocol):
    """uvicorn's HTTP, which notes for each request when the last of it had arrived."""

    _socket: socket.socket | None = None
    _came_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket = _beside(transport.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._socket is not None:
            self._socket.detach()  # the transport closes it
            self._socket = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._came_at = time.monotonic() - waited_s(self._socket)
        super().data_received(data)

    def on_message_complete(self) -> None:
        self.scope["state"][ARRIVED] = self._came_at
        super().on_message_complete()


def _beside(connection: Any) -> socket.socket | None:
    """A socket of our own on the transport's descriptor: what uvloop gives out makes a new one whenever it is asked."""
    try:
        return socket.socket(fileno=connection.fileno())
    except (AttributeError, OSError, ValueError):  # no socket, or closed meanwhile
        return None


def waited_s(connection: socket.socket | None) -> float:
    """For how long the newest data of a TCP connection has been there, a tick less; 0.0 where the kernel does not say.

    Data is with the kernel from when it came until the event loop comes round to read it.
    """
    if TCP_INFO is None or connection is None:
        return 0.0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, LONG_ENOUGH)
    except OSError:  # no TCP, or closed meanwhile
        return 0.0
    if len(info) < LONG_ENOUGH:
        return 0.0
    (ago_ms,) = struct.unpack_from("I", info, LAST_DATA_RECEIVED_AT)
    return max(float(ago_ms) / 1000.0 - TICK_S, 0.0)
