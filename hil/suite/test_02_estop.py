"""The e-stop button, and what is wrong with its wires."""

import pytest

from hil.rig import Contact, Rig
from hil.suite.conftest import SAMPLES, Meter, opened, run
from tests.waiting import block_until


@pytest.mark.parametrize("_sample", range(SAMPLES))
def test_a_press_opens_both_relays(rig: Rig, meter: Meter, _sample: int) -> None:
    run(rig)
    pressed_ns = rig.press("estop")
    meter.add("estop_to_relay_a", pressed_ns, opened(rig, "a"))
    meter.add("estop_to_relay_b", pressed_ns, opened(rig, "b"))
    block_until(lambda: not rig.moving())


def test_while_it_is_pressed_nobody_resumes_and_its_release_starts_nothing(rig: Rig) -> None:
    run(rig)
    rig.press("estop")
    opened(rig, "a")
    refused = rig.guardian.resume("hil", retries=5)[-1]
    assert (refused.stage, refused.reason) == ("refused", "cause_active")
    rig.release("estop")
    block_until(lambda: not rig.faults())
    assert not rig.relay("a").closed
    assert not rig.moving()


@pytest.mark.parametrize("contact", ["a", "b"])
def test_a_cut_wire_stops_and_wants_the_button_worked(rig: Rig, contact: Contact) -> None:
    run(rig)
    rig.cut("estop", contact)
    opened(rig, "a")
    prove(rig)


@pytest.mark.parametrize("contact", ["a", "b"])
def test_a_welded_contact_shows_at_the_next_press(rig: Rig, contact: Contact) -> None:
    run(rig)
    rig.weld("estop", contact)
    rig.press("estop")
    opened(rig, "a")
    prove(rig)


def prove(rig: Rig) -> None:
    """The discrepancy is found; once mended, the button is worked, as the agent wants it."""
    block_until(lambda: any("input_fault" in fault for fault in rig.faults()))
    rig.release("estop")
    rig.heal()
    block_until(lambda: not rig.faults())
    refused = rig.guardian.resume("hil", retries=5)[-1]
    assert (refused.stage, refused.reason) == ("refused", "reset_needed")
    rig.press("estop")
    block_until(lambda: any("estop_pressed" in fault for fault in rig.faults()))
    rig.release("estop")
