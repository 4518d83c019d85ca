"""The fixture of the tests of back ends."""

from __future__ import annotations

import pytest
from forms_cases import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("forms"))
