"""`guardian order` with drafts of any content: an order, or one line that names what is wrong."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.trust import is_name
from agent.logformat.draft import MAX_ORDER_SEGMENTS
from console.errors import ConsoleError
from console.order import Order, read_draft


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    yield folder / "draft.json"
    shutil.rmtree(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["delete", "tele"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ALMOST = st.fixed_dictionaries(
    {
        "robot": st.just("R-1") | JSON,
        "order": st.just("delete") | JSON,
        "reason": st.just("") | JSON,
        "segments": JSON
        | st.lists(
            st.fixed_dictionaries(
                {
                    "stream": st.sampled_from(["safety", "net", "tele"]) | JSON,
                    "segno": st.integers(-1, 12) | JSON,
                    "seal": st.just("ab" * 32) | JSON,
                }
            ),
            max_size=3,
        ),
    }
)


@given(st.binary(max_size=200) | (JSON | ALMOST).map(lambda value: json.dumps(value).encode()))
def test_whatever_a_draft_holds_it_is_an_order_or_one_line(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    found = outcome(place)
    if isinstance(found, str):
        assert found.isprintable()
        return
    assert is_name(found.robot)
    assert 1 <= len(found.segments) <= MAX_ORDER_SEGMENTS
    assert all(line.isprintable() for line in found.lines())
    assert found.claims()["segments"] == json.loads(content)["segments"]


def outcome(path: Path) -> Order | str:
    try:
        return read_draft(path)
    except ConsoleError as error:
        return str(error)
