"""Orders to a unit, and what is observed of it, over a real D-Bus daemon."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from dbus_fast import Message, Variant

from drivers.adapters.base import Outcome
from drivers.adapters.bus import Bus
from drivers.adapters.systemd import SystemdAdapter
from tests.descriptors import open_descriptors
from tests.drivers.adapters.buses import (
    ANY,
    Daemon,
    Reaction,
    Systemd,
    daemon,
    does,
    never_answers,
    refuses,
    returns,
    starts_a_job,
    systemd_on,
)
from tests.drivers.adapters.rig import Desk
from tests.waiting import wait_until

NOTHING_DONE = does()


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("bus")) as running:
        yield running


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def systemd(bus: Daemon) -> AsyncIterator[Systemd]:
    async with systemd_on(bus.path) as answering:
        yield answering


def adapter(desk: Desk, bus: Daemon, **changes: object) -> SystemdAdapter:
    settings = {"unit": "robot.service", "bus": str(bus.path), "grace_ms": 1000}
    return SystemdAdapter("systemd robot", {**settings, **changes}, desk.around)


async def carry_out(desk: Desk, bus: Daemon, action: str, deadline_ms: int = 60_000) -> tuple[Outcome, str]:
    robot = adapter(desk, bus)
    return await desk.outcome(robot, desk.begin(robot, deadline_ms=deadline_ms, action=action))


# --------------------------------------------------------------------------------------- what is ordered


@pytest.mark.parametrize(
    ("action", "orders", "detail"),
    [
        ("freeze", [("FreezeUnit", ["robot.service"])], "FreezerState is 'frozen'"),
        ("thaw", [("ThawUnit", ["robot.service"])], "FreezerState is 'running'"),
        ("stop", [("StopUnit", ["robot.service", "replace"])], "ActiveState is 'inactive'"),
        (
            "kill",
            [("KillUnit", ["robot.service", "all", 9]), ("StopUnit", ["robot.service", "replace"])],
            "ActiveState is 'inactive'",
        ),
    ],
)
async def test_orders_and_the_state_that_shows_their_effect(
    desk: Desk, bus: Daemon, systemd: Systemd, action: str, orders: list[object], detail: str
) -> None:
    assert await carry_out(desk, bus, action) == (Outcome.DONE, detail)
    assert systemd.calls == [("LoadUnit", ["robot.service"]), *orders]


async def test_the_network_is_cut_for_all_addresses_and_without_exceptions(
    desk: Desk, bus: Daemon, systemd: Systemd
) -> None:
    """What the unit's own file allows would go before what is denied."""
    outcome, _ = await carry_out(desk, bus, "cut_network")
    assert outcome is Outcome.DONE
    assert (systemd.unit.allow, systemd.unit.deny) == ([], ANY)
    (name, (unit, runtime, _)) = systemd.calls[1]
    assert (name, unit, runtime) == ("SetUnitProperties", "robot.service", True)
    again, _ = await carry_out(desk, bus, "cut_network")
    assert again is Outcome.DONE


@pytest.mark.parametrize("name", ["robot.slice", "robot.scope"])
async def test_lists_of_addresses_belong_to_the_unit_s_type(
    desk: Desk, bus: Daemon, systemd: Systemd, name: str
) -> None:
    robot = adapter(desk, bus, unit=name)
    outcome, detail = await desk.outcome(robot, desk.begin(robot, action="cut_network"))
    assert outcome is Outcome.FAILED
    assert "Unknown interface" in detail
    assert systemd.asked[1] == (f"org.freedesktop.systemd1.{name[6:].capitalize()}", "IPAddressAllow")


# ---------------------------------------------------------------------------------- what is not believed


@pytest.mark.parametrize(
    ("action", "member", "state"),
    [
        ("freeze", "FreezeUnit", {"freezer": "freezing"}),
        ("freeze", "FreezeUnit", {"freezer": "frozen-by-parent"}),
        ("thaw", "ThawUnit", {"freezer": "thawing"}),
        ("stop", "StopUnit", {"active": "deactivating"}),
        ("kill", "StopUnit", {"active": "activating"}),
        ("cut_network", "SetUnitProperties", {}),
        ("cut_network", "SetUnitProperties", {"allow": [], "deny": ANY[:1]}),
        ("cut_network", "SetUnitProperties", {"allow": [(2, bytes([10, 0, 0, 0]), 8)], "deny": ANY}),
    ],
)
async def test_an_answer_without_the_effect_is_not_done(
    desk: Desk, bus: Daemon, systemd: Systemd, action: str, member: str, state: dict[str, object]
) -> None:
    systemd.unit.freezer = "frozen" if action == "thaw" else "running"
    react = does(**state)
    for each in (member, "KillUnit"):
        systemd.react[each] = react if each != "StopUnit" else starts_a_job(**state)
    robot = adapter(desk, bus, grace_ms=100)
    step_id = desk.begin(robot, deadline_ms=10_000, action=action)
    await desk.polled(robot, lambda: member in systemd.orders())
    seen = len(systemd.asked)
    await desk.polled(robot, lambda: len(systemd.asked) > seen + 4)
    assert desk.heard == []
    desk.pass_ms(10_100)
    result = await desk.result(robot, step_id)
    assert result.outcome is Outcome.FAILED
    assert result.detail.startswith("not finished 100 ms after its deadline of 10000 ms: ")
    assert " is " in result.detail


async def test_an_effect_after_the_deadline_is_late(desk: Desk, bus: Daemon, systemd: Systemd) -> None:
    systemd.react["FreezeUnit"] = does(freezer="freezing")
    robot = adapter(desk, bus)
    step_id = desk.begin(robot, deadline_ms=500, action="freeze")
    await desk.polled(robot, systemd.orders)
    desk.pass_ms(600)
    desk.poll(robot)
    systemd.unit.freezer = "frozen"
    result = await desk.result(robot, step_id)
    assert (result.outcome, result.detail) == (Outcome.LATE, "FreezerState is 'frozen'")


async def test_an_effect_before_its_answer_is_enough(desk: Desk, bus: Daemon, systemd: Systemd) -> None:
    def react(systemd: Systemd, message: Message) -> None:
        systemd.unit.freezer = "frozen"

    systemd.react["FreezeUnit"] = react
    assert await carry_out(desk, bus, "freeze") == (Outcome.DONE, "FreezerState is 'frozen'")


async def test_a_unit_that_does_not_stop_is_killed_at_the_deadline(
    desk: Desk, bus: Daemon, systemd: Systemd
) -> None:
    systemd.react["StopUnit"] = starts_a_job(active="deactivating")
    robot = adapter(desk, bus)
    step_id = desk.begin(robot, deadline_ms=500, action="stop")
    await desk.polled(robot, systemd.orders)
    await desk.pass_polling(robot, 400)
    assert systemd.orders() == ["StopUnit"]
    desk.pass_ms(100)
    result = await desk.result(robot, step_id)
    assert systemd.orders() == ["StopUnit", "KillUnit"]
    assert (result.outcome, result.detail) == (
        Outcome.LATE,
        "ActiveState is 'failed', SIGKILL was needed",
    )


@pytest.mark.parametrize("load", ["not-found", "masked", "error", "bad-setting"])
@pytest.mark.parametrize("action", ["stop", "kill", "freeze"])
async def test_a_unit_that_is_not_there_is_not_inactive(
    desk: Desk, bus: Daemon, systemd: Systemd, action: str, load: str
) -> None:
    """Any name that systemd does not know it shows as a unit that is inactive."""
    systemd.unit.load, systemd.unit.active = load, "inactive"
    found = await carry_out(desk, bus, action)
    assert found == (Outcome.FAILED, f"robot.service is '{load}': there is no such unit")
    assert systemd.orders() == []


# ------------------------------------------------------------------------------------------ what is refused

DENIED = "org.freedesktop.DBus.Error.AccessDenied"


@pytest.mark.parametrize(
    ("action", "member"),
    [
        ("freeze", "FreezeUnit"),
        ("stop", "StopUnit"),
        ("kill", "KillUnit"),
        ("cut_network", "SetUnitProperties"),
        ("freeze", "LoadUnit"),
        ("freeze", "Get"),
    ],
)
async def test_a_refusal_ends_the_step_with_systemd_s_words(
    desk: Desk, bus: Daemon, systemd: Systemd, action: str, member: str
) -> None:
    systemd.react["StopUnit"] = starts_a_job()
    systemd.react[member] = refuses(DENIED, "Permission denied\nby polkit")
    outcome, detail = await carry_out(desk, bus, action)
    assert outcome is Outcome.FAILED
    assert f"{DENIED}: Permission denied by polkit" in detail


async def test_a_refusal_of_what_is_there_already_is_no_failure(
    desk: Desk, bus: Daemon, systemd: Systemd
) -> None:
    systemd.unit.freezer = "frozen"
    systemd.react["FreezeUnit"] = refuses("org.freedesktop.systemd1.UnitBusy", "frozen already")
    assert await carry_out(desk, bus, "freeze") == (Outcome.DONE, "FreezerState is 'frozen'")


async def test_an_action_that_is_none_fails(desk: Desk, bus: Daemon) -> None:
    robot = adapter(desk, bus)
    desk.begin(robot, action="restart")
    assert [(each.outcome, each.detail) for each in desk.heard] == [
        (Outcome.FAILED, "args.action must be one of freeze, thaw, stop, kill, cut_network")
    ]


@pytest.mark.parametrize(
    "reaction",
    [
        lambda _, message: returns(message),
        lambda _, message: returns(message, "i", 5),
        lambda _, message: returns(message, "s", "/no path"),
        lambda _, message: returns(message, "v", Variant("as", ["frozen"])),
    ],
)
async def test_answers_of_another_shape_are_no_answers(
    desk: Desk, bus: Daemon, systemd: Systemd, reaction: Reaction
) -> None:
    for member in ("LoadUnit", "Get"):
        systemd.react = {member: reaction}
        outcome, _ = await carry_out(desk, bus, "freeze")
        assert outcome is Outcome.FAILED


# ------------------------------------------------------------------------------------------- nobody there


async def test_without_a_bus_it_is_tried_until_the_end(desk: Desk, tmp_path: Path) -> None:
    robot = adapter(desk, Daemon(tmp_path), grace_ms=100)
    step_id = desk.begin(robot, deadline_ms=300, action="freeze")
    await desk.pass_polling(robot, 390)
    assert desk.heard == []
    result = await desk.result(robot, step_id)
    assert result.outcome is Outcome.FAILED
    assert result.detail.endswith("/bus: No such file or directory")


async def test_without_systemd_on_the_bus_it_fails(desk: Desk, bus: Daemon) -> None:
    outcome, detail = await carry_out(desk, bus, "freeze")
    assert outcome is Outcome.FAILED
    assert "org.freedesktop.DBus.Error.ServiceUnknown" in detail


async def test_a_bus_that_breaks_while_it_is_reached_is_tried_again(
    desk: Desk, bus: Daemon, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = adapter(desk, bus)
    with monkeypatch.context() as patch:
        patch.setattr(Bus, "_send", lambda self, _: self._fail("Broken pipe"))
        step_id = desk.begin(robot, deadline_ms=60_000, action="freeze")
    await desk.pass_polling(robot, 200)
    assert await desk.outcome(robot, step_id) == (Outcome.DONE, "FreezerState is 'frozen'")


@pytest.mark.parametrize("member", ["LoadUnit", "Get"])
async def test_a_systemd_that_never_answers_is_given_up(
    desk: Desk, bus: Daemon, systemd: Systemd, member: str
) -> None:
    systemd.react[member] = never_answers
    robot = adapter(desk, bus, grace_ms=100)
    step_id = desk.begin(robot, deadline_ms=300, action="freeze")
    await desk.polled(robot, lambda: systemd.calls)
    before = open_descriptors()
    desk.pass_ms(400)
    result = await desk.result(robot, step_id)
    assert result.outcome is Outcome.FAILED
    assert open_descriptors() == before - 1


async def test_a_bus_that_comes_later_and_goes_away_in_between(desk: Desk, tmp_path: Path) -> None:
    """Orders are given again on the new connection."""
    private = Daemon(tmp_path)
    robot = adapter(desk, private)
    step_id = desk.begin(robot, deadline_ms=60_000, action="freeze")
    await desk.polled(robot, lambda: True)
    private.start()
    async with systemd_on(private.path) as first:
        first.react["FreezeUnit"] = never_answers
        await desk.polled(robot, lambda: first.orders() == ["FreezeUnit"])
        private.stop()
    await desk.polled(robot, lambda: "No such file" in robot._unfinished(robot._jobs[step_id]))
    private.start()
    async with systemd_on(private.path) as second:
        assert await desk.outcome(robot, step_id) == (Outcome.DONE, "FreezerState is 'frozen'")
        assert second.orders() == ["FreezeUnit"]
    private.stop()


async def test_closing_lets_go_of_the_bus(desk: Desk, bus: Daemon, systemd: Systemd) -> None:
    before = open_descriptors()
    systemd.react["FreezeUnit"] = does()
    robot = adapter(desk, bus)
    desk.begin(robot, action="freeze")
    await wait_until(systemd.orders)
    robot.close()
    assert [result.detail for result in desk.heard] == ["the adapter was closed"]
    assert open_descriptors() == before
