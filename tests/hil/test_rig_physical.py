"""The physical rig against an injector that is played on a pseudo-terminal, with a whole site behind it."""

import json
import os
import shutil
import tempfile
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.person import write_profile
from hil.rig import RigError
from hil.rig.physical import PhysicalRig
from hil.site import Site
from tests.waiting import block_until


class Board:
    """What the README asks of an injector, done to the simulated nodes. `mood`: how it answers."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.mood = "well"
        self._far, near = os.openpty()
        tty.setraw(near)
        self.port = os.ttyname(near)
        self._near = near
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        os.write(self._near, b'{"order":"end"}\n')
        self._thread.join()
        os.close(self._far)
        os.close(self._near)

    def _serve(self) -> None:
        heard = b""
        while True:
            heard += os.read(self._far, 4096)
            while b"\n" in heard:
                line, _, heard = heard.partition(b"\n")
                order = json.loads(line)
                if order["order"] == "end":
                    return
                os.write(self._far, self._answer(order))

    def _answer(self, order: dict[str, Any]) -> bytes:
        if self.mood == "refusing":
            return b'{"ok":false}\n'
        if self.mood == "nonsense":
            return b"\xff\xfe not json\n"
        if self.mood == "silent":
            return b""
        return json.dumps({"ok": True, **self._do(order.pop("order"), order)}).encode() + b"\n"

    def _do(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        at_us = time.monotonic_ns() // 1000  # before its effect, which may be seen while this thread waits
        a, b = self.site.node_a.control, self.site.node_b.control
        if name == "state":
            told: dict[str, Any] = {"moving": bool(self.site.account().get("moving"))}
            for node, control in (("a", a), ("b", b)):
                state = control.state()
                changed_ns = state.transitions[-1].at_ns if state.transitions else 0
                told |= {f"relay_{node}": state.relay, f"relay_{node}_us": changed_ns // 1000}
            return told
        if name == "heal":
            for control in (a, b):
                control.deaf(on=False)
                control.silent(on=False)
            for each in ("estop", "bumper"):
                a.order("release", input=each)
                a.mend(each)
                a.unweld(each)
        elif name == "power":
            control = a if given["node"] == "a" else b
            control.deaf(on=not given["on"])
            control.silent(on=not given["on"])
        elif name != "now":
            a.order(name, **given)
        return {"at_us": at_us}


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    folder = Path(tempfile.mkdtemp(prefix="w"))
    with Site(folder, broker="mosquitto") as site:
        played = Board(site)
        yield played
        played.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def rig(board: Board) -> Iterator[PhysicalRig]:
    board.mood = "well"
    settings = board.site.folder / "rig.toml"
    profile = write_profile(board.site.folder, "guardian-li", board.site.broker)
    settings.write_text(f'port = "{board.port}"\nplan = "{board.site.plan}"\nprofile = "{profile}"\n')
    with PhysicalRig(settings) as made:
        yield made
        board.mood = "well"


def run(rig: PhysicalRig) -> None:
    rig.heal()
    block_until(lambda: not rig.faults())
    if not rig.moving():
        assert rig.guardian.resume("hil", retries=5)[-1].stage == "actuated"
    block_until(lambda: rig.moving() and rig.relay("a").closed and rig.relay("b").closed)


def test_press_and_release(rig: PhysicalRig) -> None:
    run(rig)
    pressed_ns = rig.press("estop")
    block_until(lambda: not rig.relay("a").closed)
    assert rig.relay("a").changed_ns >= pressed_ns - 1_000  # the board's clock counts microseconds
    assert any("estop_pressed" in fault for fault in rig.faults())
    rig.release("estop")
    block_until(lambda: not rig.faults())


def test_cut_weld_and_power(rig: PhysicalRig) -> None:
    run(rig)
    rig.cut("bumper", "a")
    block_until(lambda: any("input_fault" in fault for fault in rig.faults()))
    rig.heal()
    rig.press("bumper")  # the discrepancy wants it worked once
    rig.release("bumper")
    run(rig)
    rig.weld("bumper", "b")
    rig.power("b", on=False)
    block_until(lambda: not rig.relay("b").closed and not rig.moving())
    rig.power("b", on=True)


def test_freeze_thaw_and_kill(rig: PhysicalRig) -> None:
    run(rig)
    rig.freeze("remote")
    block_until(lambda: not rig.moving())
    rig.thaw("remote")
    block_until(lambda: not rig.faults())
    rig.kill("reflex")
    block_until(lambda: not rig.faults())
    assert not rig.moving()


@pytest.mark.parametrize("mood", ["refusing", "nonsense", "silent"])
def test_a_board_that_does_not_do_it_is_an_error_that_says_so(
    board: Board, rig: PhysicalRig, mood: str
) -> None:
    board.mood = mood
    with pytest.raises(RigError, match="injector: press"):
        rig.press("estop")


def test_settings_that_cannot_be_used_name_the_file(tmp_path: Path) -> None:
    settings = tmp_path / "rig.toml"
    for text in ("port = 1", "not toml", 'port = "/dev/nowhere"'):
        settings.write_text(text)
        with pytest.raises(RigError, match=r"rig\.toml"):
            PhysicalRig(settings)
