import ctypes
from types import SimpleNamespace

import pytest

import agent.clock as clock_module
from agent.clock import clock_synchronised


@pytest.mark.parametrize(
    ("state", "status", "synchronised"),
    [(0, 0x2001, True), (1, 0, True), (0, 0x40, False), (5, 0, False), (5, 0x40, False), (-1, 0, False)],
)
def test_the_clock_is_believed_only_where_the_kernel_says_so(
    monkeypatch: pytest.MonkeyPatch, state: int, status: int, synchronised: bool
) -> None:
    def adjtimex(reference: object) -> int:
        timex = reference._obj  # type: ignore[attr-defined]
        assert timex.modes == 0  # only reads
        timex.status = status
        return state

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(adjtimex=adjtimex))
    assert clock_synchronised() is synchronised


def test_this_kernels_answer_is_the_one_in_its_own_structure() -> None:
    """The same question through the C compiler's eyes is in the layout: offset of `status` on Linux."""
    size = ctypes.sizeof(ctypes.c_long)
    assert clock_module._Timex.status.offset == 5 * size
    assert clock_synchronised() in {True, False}
