"""A client in front of a fake service, with a key that may do everything."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from tests.serving.api.fakes import NOW, FakeService


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    """Made once; each test puts its own service behind it."""
    first = FakeService(tmp_path_factory.mktemp("first"))
    yield create_app(first)
    first.close()


@pytest.fixture
def service(tmp_path):
    made = FakeService(tmp_path)
    yield made
    made.close()


@pytest.fixture
def anybody(app, service):
    """A client without a key. Not a context manager: the fixture above closes the service."""
    app.state.service = service
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client(anybody, service):
    anybody.headers["Authorization"] = f"Bearer {service.secret}"
    return anybody


@pytest.fixture
def client_with(anybody, service):
    """A client whose key has only these scopes."""

    def make(*scopes, kind="secret"):
        anybody.headers["Authorization"] = f"Bearer {service.keys.create(kind, scopes, '', NOW)}"
        return anybody

    return make
