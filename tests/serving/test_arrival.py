"""When a question arrived, by the kernel's account: also while the event loop was busy with others."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import closing

import pytest
import uvicorn
from uvicorn.server import ServerState

from serving.arrival import ARRIVED, TCP_INFO, Arriving, waited_s

BUSY_S = 0.3
needs_kernel = pytest.mark.skipif(TCP_INFO is None, reason="the kernel does not say when data came")


@needs_kernel
def test_data_that_waits_in_a_socket_grows_old_there():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            sender.sendall(b"x")
            time.sleep(BUSY_S)
            assert BUSY_S / 2 < waited_s(receiver) < BUSY_S + 1.0


def test_what_is_no_tcp_connection_has_not_waited():
    one, other = socket.socketpair()
    with closing(one), closing(other):
        assert waited_s(one) == 0.0
    assert waited_s(None) == 0.0


def test_a_connection_that_ends_is_closed_once_and_by_its_transport():
    """Else the number of its file might be somebody else's by then."""

    async def no_app(scope, receive, send):
        pass

    async def scenario():
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        config = uvicorn.Config(no_app, http=Arriving, lifespan="off", log_level="critical")
        config.load()
        transport, protocol = await loop.connect_accepted_socket(
            lambda: Arriving(config, ServerState(), {}, loop), sock=one
        )
        held = protocol._socket
        assert held is not None
        assert held.fileno() == transport.get_extra_info("socket").fileno()
        transport.close()
        await asyncio.sleep(0)
        other.close()
        await asyncio.sleep(0.01)
        return held.fileno(), protocol._socket

    assert asyncio.run(scenario()) == (-1, None)


@needs_kernel
def test_a_request_that_came_while_the_loop_was_busy_has_waited_since_then():
    async def app(scope, receive, send):
        age = b"%.6f" % (time.monotonic() - scope["state"][ARRIVED])
        if scope["path"] == "/busy":
            time.sleep(BUSY_S)
        headers = [(b"connection", b"close"), (b"content-length", b"%d" % len(age))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": age})

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=Arriving, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        address = listening.getsockname()
        with closing(socket.create_connection(address)) as busy, closing(socket.create_connection(address)) as waiting:
            busy.sendall(b"GET /busy HTTP/1.1\r\nhost: here\r\n\r\n")
            time.sleep(BUSY_S / 3)
            waiting.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
            age_s = float(_body(waiting))
    finally:
        server.should_exit = True
        thread.join(10.0)
        listening.close()
    assert BUSY_S / 3 < age_s < BUSY_S + 1.0  # two thirds of the other's time were left when it came


def _body(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received.partition(b"\r\n\r\n")[2]
