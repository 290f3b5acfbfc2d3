"""Edges of modem lines: one thread that tells, and what its end changes."""

import select
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from agent.core.readings import Quality
from drivers.serial_contact.edges import Edges
from drivers.serial_contact.lines import Line
from drivers.serial_line import LineError
from tests.descriptors import open_descriptors
from tests.drivers.hosts import DEADLINE_S, FakeHost
from tests.drivers.serial_contact.rig import TICK_MS, ContactRig
from tests.drivers.serial_contact.world import Scripted, ScriptedWaiter, World
from tests.waiting import block_until


def is_readable(edges: Edges, wait_ms: float = 0) -> bool:
    poll = select.poll()
    poll.register(edges.fileno(), select.POLLIN)
    return bool(poll.poll(wait_ms))


def await_edge(edges: Edges) -> bool:
    assert is_readable(edges, DEADLINE_S * 1000)
    return edges.take()


@pytest.fixture
def port() -> Iterator[Scripted]:
    port = Scripted(World(FakeHost()))
    yield port
    port.close()


@pytest.fixture
def edges(port: Scripted) -> Iterator[Edges]:
    edges = Edges(port.waiter(port.driven))
    yield edges
    edges.close()


def told(rig: ContactRig) -> int:
    return rig.device.counters["edges"]


def has_told(rig: ContactRig, edges: int) -> bool:
    return told(rig) == edges


# ------------------------------------------------------------------------------------------------ the thread


def test_an_edge_is_told_once(port: Scripted, edges: Edges) -> None:
    assert not is_readable(edges)
    port.edge()
    assert await_edge(edges)
    assert edges.take()  # nothing more to read, and the thread goes on
    assert not is_readable(edges)


def test_edges_that_follow_each_other_wait_until_they_are_asked_for(port: Scripted, edges: Edges) -> None:
    """Contacts that chatter at a thousand edges cost what two do."""
    for _ in range(1_000):
        port.edge()
    assert await_edge(edges)
    block_until(lambda: port._edges.qsize() == 999)
    assert not is_readable(edges)
    edges.again()
    assert await_edge(edges)
    block_until(lambda: port._edges.qsize() == 998)
    assert not is_readable(edges, 50)


def test_the_end_of_the_port_is_the_end_of_the_thread(port: Scripted, edges: Edges) -> None:
    assert edges.lingers
    port.hang_up()
    assert not await_edge(edges)
    assert not edges.lingers


def test_a_thread_that_waits_lingers_until_the_next_edge(port: Scripted, edges: Edges) -> None:
    edges.close()
    edges.close()
    assert edges.lingers
    port.edge()
    block_until(lambda: not edges.lingers)


def test_a_thread_that_is_not_asked_again_ends_when_it_is_let_go(port: Scripted, edges: Edges) -> None:
    port.edge()
    assert await_edge(edges)
    edges.close()
    block_until(lambda: not edges.lingers)


def test_no_room_for_a_thread_leaves_nothing_open(port: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError(f"can't start {thread.name}")

    others, open_before = threading.stack_size(1 << 20), open_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            Edges(port.waiter(port.driven))
    assert open_descriptors() == open_before
    assert threading.stack_size(others) == 1 << 20


# ------------------------------------------------------------------------------------------------ the device


@pytest.mark.parametrize("pressed", [True, False])
def test_an_edge_is_seen_without_a_tick(rig: ContactRig, pressed: bool) -> None:
    rig.run()
    rig.press(pressed=not pressed)
    rig.tick(TICK_MS)
    before = rig.host.changes
    rig.press(pressed=pressed)
    rig.world.plug.edge()
    rig.host.turn_until(lambda: told(rig) == 1)
    assert rig.reading().value is not pressed
    assert rig.host.changes == before + 1


def test_an_edge_of_the_mirror_is_seen_without_a_tick(rig: ContactRig) -> None:
    rig.run()
    rig.world.mirror = True
    rig.world.plug.edge()
    rig.host.turn_until(lambda: told(rig) == 1)
    assert rig.readback() is True


def test_the_module_may_close_the_device_from_within(rig: ContactRig) -> None:
    rig.run()
    rig.host.on_changed = rig.device.close
    rig.press()
    rig.world.plug.edge()
    rig.host.turn_until(lambda: not rig.host.watched)
    assert rig.reading().value is False


def test_the_pulse_s_own_edges_are_no_press(rig: ContactRig) -> None:
    rig.run()
    before = rig.host.changes
    for _ in range(1_200):
        driven = len(rig.world.plug.log)
        rig.tick(TICK_MS)
        if len(rig.world.plug.log) > driven:
            due = told(rig) + 1
            rig.world.plug.edge()
            rig.host.turn_until(partial(has_told, rig, due))
        assert rig.reading().quality is Quality.GOOD
    assert has_told(rig, 2)
    assert rig.host.changes == before


def test_chattering_contacts_cost_two_looks_a_tick(rig: ContactRig) -> None:
    rig.run()
    for _ in range(10):
        for _ in range(50):
            rig.world.plug.edge()
        rig.tick(TICK_MS)
        rig.host.turn()
    looks = rig.device.counters["answers"]
    assert told(rig) <= 2 * 11
    assert looks <= 2 * 11 + 20


def test_the_end_of_the_thread_changes_nothing_but_speed(rig: ContactRig) -> None:
    rig.world.edges_told = False
    rig.run()
    watched = len(rig.host.watched)
    rig.host.turn_until(lambda: len(rig.host.watched) == watched - 1)
    rig.press()
    rig.tick(TICK_MS)
    assert rig.reading().value is False
    assert rig.reading().quality is Quality.GOOD


def test_a_thread_that_cannot_be_had_changes_nothing_but_speed(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError(f"can't start {thread.name}")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        rig.run()
    assert len(rig.host.watched) == 1
    assert [waiter.closed for waiter in rig.world.plug.waiters] == [True]
    rig.press()
    rig.tick(TICK_MS)
    assert rig.reading().value is False


def test_a_port_that_gives_no_waiter_changes_nothing_but_speed(
    rig: ContactRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(port: Scripted, lines: Line) -> ScriptedWaiter:
        raise LineError("the port", f"no room to wait for {lines!r} at {port.fileno()}")

    monkeypatch.setattr(Scripted, "waiter", refuse)
    rig.run()
    assert len(rig.host.watched) == 1


def test_a_reopened_port_has_its_edges_again(rig: ContactRig) -> None:
    rig.run()
    rig.unplug()
    block_until(lambda: not (rig.device._last_edges and rig.device._last_edges.lingers))
    rig.replug()
    rig.world.silent = False
    rig.tick(200)
    rig.press()
    rig.world.plug.edge()
    rig.host.turn_until(lambda: told(rig) == 1)
    assert rig.reading().value is False


def test_a_call_that_does_not_end_with_its_port_is_left_alone(rig: ContactRig) -> None:
    """One thread at a time, however often the port comes back."""
    rig.run()
    first = rig.world.plug
    rig.world.edges_end = False
    for _ in range(3):
        rig.unplug()
        rig.replug()
        rig.world.silent = False
        rig.tick(2_500)
        assert rig.reading().quality is Quality.GOOD
        assert rig.world.plug.waiters == []
    rig.world.edges_end = True
    first.hang_up()
    block_until(lambda: not (rig.device._last_edges and rig.device._last_edges.lingers))
    rig.unplug()
    rig.replug()
    rig.tick(2_500)
    assert len(rig.world.plug.waiters) == 1
