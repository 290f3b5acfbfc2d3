from pathlib import Path

import pytest

from tests.sdk.c_reader import build


@pytest.fixture(scope="session")
def permit_cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C reader with sanitizers."""
    return build("permit_cli", tmp_path_factory.mktemp("c"))
