"""What the contracts of stores are tested with."""

from __future__ import annotations

import pytest

from tests.contracts.contact_world import STORES, World


@pytest.fixture(params=STORES, ids=lambda store: store.__name__)
def world(request, tmp_path):
    made = World(request.param, tmp_path)
    yield made
    made.close()
