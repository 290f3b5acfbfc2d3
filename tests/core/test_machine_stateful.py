"""The core of the real processes, both joined, through whatever may happen in whatever order."""

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent.core.responses import Response
from tests.core.robot_model import NAMES
from tests.core.robot_rig import Robot

names = st.sampled_from(NAMES)
flags = st.booleans()
some = st.integers(0, 15)
STOPS = (Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP)


class Anything(RuleBasedStateMachine, Robot):
    """Every act of `Robot` is a rule."""

    start_both = initialize()(Robot.install)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.remove()

    time_passes = rule(count=st.integers(1, 30))(Robot.tick)
    it_is_brought_up = rule()(Robot.bring_up)
    it_is_brought_up_again = rule()(Robot.bring_up)
    """Twice, so that it runs more often than its other rules let it."""

    one_is_killed = rule(name=names)(Robot.kill)
    one_is_restarted = rule(name=names)(Robot.restart)
    one_freezes = rule(name=names)(Robot.freeze)
    one_thaws = rule(name=names)(Robot.thaw)
    a_disk = rule(name=names, works=flags)(Robot.disk)
    the_power_goes = rule()(Robot.power_cut)
    the_wire_is_cut = rule()(Robot.cut_the_wire)
    the_wire_is_joined = rule()(Robot.join_the_wire)
    the_wire_is_held = rule(flows=flags)(Robot.hold_the_wire)
    a_message_is_lost = rule(name=names)(Robot.lose_a_message)

    the_e_stop = rule(contact=st.sampled_from(["open", "closed", "split"]))(Robot.e_stop)
    the_e_stop_is_worked = rule(contact=st.sampled_from(["open", "split"]), ticks=st.integers(1, 9))(
        Robot.work
    )
    somebody_is_near = rule(near=flags)(Robot.somebody)
    the_robot_s_software = rule(there=flags)(Robot.robot_software)
    the_robot_s_beats = rule(beats=flags)(Robot.robot_beats)

    a_stop = rule(response=st.sampled_from(STOPS))(Robot.guardian_stops)
    power_is_ordered_off = rule()(Robot.power_off)
    a_resume = rule()(Robot.guardian_resumes)
    a_resume_of_another_stop = rule(by=st.sampled_from([-1, 1]))(Robot.guardian_names_another_stop)
    a_late_resume = rule(which=some, renamed=flags)(Robot.guardian_is_late)
    a_resume_that_is_overtaken = rule()(Robot.resume_overtaken)
    any_command_again = rule(which=some)(Robot.a_command_comes_again)
    a_suspension = rule()(Robot.suspend)
    a_re_evaluation = rule(right=flags)(Robot.reinstate)
    maintenance_begins_or_ends = rule(begin=flags)(Robot.maintenance)

    @rule(dice=st.integers(0, 9))
    def the_end_of_service(self, dice: int) -> None:
        """Seldom: nothing runs after it."""
        if dice == 0:
            self.retire()

    @precondition(lambda self: not self.joined.hostile)
    @rule(dice=st.integers(0, 2), resumed=flags)
    def somebody_takes_remote_over(self, dice: int, resumed: bool) -> None:
        """Seldom: it takes a while to be driven out."""
        if dice == 0:
            self.bring_up()
            self.remote_is_taken_over(resumed=resumed)

    hostile = precondition(lambda self: self.joined.hostile)
    it_claims = hostile(
        rule(
            own=st.sampled_from([Response.NONE, *STOPS, Response.RETIRE]),
            causes=st.lists(
                st.sampled_from(["too_close", "clock_jump", "guardian_stop", "invented"]), max_size=3
            ),
            epoch=st.integers(0, 9),
        )(Robot.it_says_how_it_stands)
    )
    it_pretends = hostile(rule(pretends=flags)(Robot.it_pretends_to_be_well))
    it_uses_what_it_has = hostile(rule(token=st.integers(-3, 15))(Robot.it_passes_on))
    it_invents = hostile(rule()(Robot.it_invents_a_resume))
    people_believe_it = hostile(
        rule(cmd=st.sampled_from(["resume", "suspend", "reinstate"]))(Robot.people_sign_through_it)
    )
    it_goes = hostile(rule()(Robot.it_is_driven_out))


Anything.TestCase.settings = settings(
    derandomize=True,
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
)
TestAnything = pytest.mark.timeout(240)(Anything.TestCase)
"""The longer time is for shrinking what failed; passing takes seconds."""
