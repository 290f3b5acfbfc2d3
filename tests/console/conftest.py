"""One broker for all tests of the guardian's side: they differ in what the robots say."""

from collections.abc import Iterator

import pytest

from tests.console.robots import Site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site.create(tmp_path_factory.mktemp("site"))
    with made.broker:
        yield made
