"""What the campaigns of `hil.log` found in `verify`, each once more by itself."""

from pathlib import Path

import pytest

from agent.audit import verify
from tests.audit.forge import Forge, record


@pytest.mark.parametrize(("told", "more", "code"), [(False, b"\0", 3), (False, b"x", 3), (True, b"\0", 2)])
def test_a_crash_between_the_seal_and_the_cut_is_no_tampering(
    tmp_path: Path, told: bool, more: bytes, code: int
) -> None:
    """Nor is what stands behind a seal that the ledger does not hold yet: nobody signed how the file ends."""
    forge = Forge(tmp_path)
    genesis = forge.genesis()
    segment = forge.open("safety")
    segment.add([record(1)])
    forge.seal(segment, told=told)
    with forge.path("safety", 1).open("ab") as file:
        file.write(more * 2_000)
    assert verify(tmp_path, genesis=genesis).exit_code == code
