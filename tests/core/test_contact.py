"""One contact from its readings: opening at once, closing after the debounce, two channels that disagree."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.causes import MS
from agent.core.contact import FRESH_CONTACT, Contact, ContactMemory, watch_contact
from agent.core.plan import InputSpec
from agent.core.readings import NEVER_READ, Quality, Reading
from tests.core.factories import BROKEN, CLOSED, NOW_NS, OPEN, SILENT, SPLIT, contact_spec, reading

DEBOUNCE_MS, DISCREPANCY_MS = 20, 50
SPEC = contact_spec()
OTHER_SPLIT = reading(True, False)


class Watch:
    """A contact and a clock that the test turns."""

    def __init__(self, spec: InputSpec = SPEC, memory: ContactMemory = FRESH_CONTACT) -> None:
        self.spec = spec
        self.memory = memory
        self.now_ns = NOW_NS

    def see(self, seen: Reading, *, after_ms: float = 0) -> Contact:
        self.now_ns += round(after_ms * MS)
        self.memory, contact = watch_contact(self.spec, self.memory, seen, self.now_ns)
        return contact

    def wants_proof(self) -> bool:
        return self.memory.needs_cycle

    def closed(self) -> "Watch":
        self.see(CLOSED)
        assert self.see(CLOSED, after_ms=DEBOUNCE_MS).closed
        return self

    def faulty(self) -> "Watch":
        self.see(SPLIT)
        assert self.see(SPLIT, after_ms=DISCREPANCY_MS).quality is Quality.FAULT
        return self


def test_before_it_was_read_nothing_is_known() -> None:
    assert Watch().see(NEVER_READ) == Contact(None, Quality.STALE, "never read")


def test_opening_acts_at_once() -> None:
    assert Watch().closed().see(OPEN) == Contact(False, Quality.GOOD)


@pytest.mark.parametrize("half_open", [SPLIT, OTHER_SPLIT], ids=["first", "second"])
def test_one_open_contact_of_two_is_open(half_open: Reading) -> None:
    assert Watch().closed().see(half_open).closed is False


def test_closing_counts_after_the_debounce() -> None:
    watch = Watch()
    assert watch.see(OPEN).closed is False
    assert watch.see(CLOSED).closed is False
    assert watch.see(CLOSED, after_ms=DEBOUNCE_MS - 0.001).closed is False
    assert watch.see(CLOSED, after_ms=0.001).closed is True


def test_a_bounce_begins_the_debounce_anew() -> None:
    watch = Watch()
    watch.see(CLOSED)
    watch.see(OPEN, after_ms=DEBOUNCE_MS - 1)
    watch.see(CLOSED, after_ms=1)
    assert watch.see(CLOSED, after_ms=DEBOUNCE_MS - 1).closed is False
    assert watch.see(CLOSED, after_ms=1).closed is True


def test_the_first_closing_is_unknown_until_the_debounce_is_over() -> None:
    watch = Watch()
    assert watch.see(CLOSED).closed is None
    assert watch.see(CLOSED, after_ms=DEBOUNCE_MS).closed is True


def test_without_a_debounce_time_closing_counts_at_once() -> None:
    assert Watch(replace(SPEC, debounce_ns=0)).see(CLOSED).closed is True


def test_a_contact_that_stays_as_it_is_needs_no_new_memory() -> None:
    watch = Watch().closed()
    before = watch.memory
    watch.see(CLOSED, after_ms=10)
    assert watch.memory is before
    watch.see(OPEN)
    before = watch.memory
    watch.see(OPEN, after_ms=10)
    assert watch.memory is before


# ---- not knowing


@pytest.mark.parametrize(
    ("seen", "quality"),
    [
        (SILENT, Quality.STALE),
        (BROKEN, Quality.FAULT),
        (reading(None), Quality.FAULT),
        (reading(1.0), Quality.FAULT),
        (reading(float("nan")), Quality.FAULT),
    ],
    ids=["silent", "broken", "nothing", "number", "nan"],
)
def test_what_cannot_be_believed_is_unknown_whatever_it_says(seen: Reading, quality: Quality) -> None:
    assert Watch().closed().see(seen) == Contact(None, quality, seen.detail)


def test_a_closing_under_way_is_forgotten_with_the_signal() -> None:
    watch = Watch()
    watch.see(CLOSED)
    watch.see(SILENT, after_ms=DEBOUNCE_MS - 1)
    assert watch.see(CLOSED, after_ms=1).closed is None
    assert watch.see(CLOSED, after_ms=DEBOUNCE_MS).closed is True


def test_a_disagreement_under_way_begins_anew_after_silence() -> None:
    watch = Watch().closed()
    watch.see(SPLIT)
    watch.see(SILENT, after_ms=DISCREPANCY_MS)
    assert watch.see(SPLIT).quality is Quality.GOOD
    assert watch.see(SPLIT, after_ms=DISCREPANCY_MS).quality is Quality.FAULT


def test_silence_that_lasts_needs_no_new_memory() -> None:
    watch = Watch().closed()
    watch.see(SILENT)
    before = watch.memory
    watch.see(SILENT, after_ms=10)
    assert watch.memory is before


# ---- two channels that disagree


def test_a_short_disagreement_is_a_contact_that_is_worked() -> None:
    watch = Watch().closed()
    watch.see(SPLIT)
    assert watch.see(SPLIT, after_ms=DISCREPANCY_MS - 0.001) == Contact(False, Quality.GOOD)
    assert watch.see(OPEN, after_ms=0.001).quality is Quality.GOOD
    assert not watch.wants_proof()


def test_a_long_disagreement_is_a_fault_and_open() -> None:
    watch = Watch().closed()
    watch.see(SPLIT)
    said = watch.see(SPLIT, after_ms=DISCREPANCY_MS)
    assert said == Contact(False, Quality.FAULT, "the two channels disagree")
    assert watch.wants_proof()


def test_disagreements_are_not_added_up() -> None:
    watch = Watch().closed()
    for _ in range(5):
        watch.see(SPLIT, after_ms=5)
        assert watch.see(SPLIT, after_ms=DISCREPANCY_MS - 1).quality is Quality.GOOD
        watch.see(OPEN, after_ms=1)


def test_a_single_contact_cannot_disagree() -> None:
    watch = Watch()
    watch.see(reading(True))
    assert watch.see(reading(True), after_ms=10 * DISCREPANCY_MS) == Contact(True, Quality.GOOD)
    assert watch.see(reading(False)).closed is False


# ---- the proof cycle


def test_a_welded_contact_looks_healthy_when_released_and_still_wants_its_proof() -> None:
    watch = Watch().faulty()
    watch.see(CLOSED, after_ms=10)
    healthy = watch.see(CLOSED, after_ms=DEBOUNCE_MS)
    assert healthy == Contact(True, Quality.GOOD)
    assert watch.wants_proof()


def test_the_proof_is_both_seen_open_then_both_closed() -> None:
    watch = Watch().faulty()
    watch.see(OPEN, after_ms=10)
    assert watch.wants_proof()
    watch.see(CLOSED, after_ms=10)
    assert watch.wants_proof()
    watch.see(CLOSED, after_ms=DEBOUNCE_MS)
    assert not watch.wants_proof()
    assert not watch.memory.opened


def test_a_weld_never_shows_both_open_so_its_proof_never_ends() -> None:
    watch = Watch().faulty()
    for _ in range(4):
        watch.see(SPLIT, after_ms=10)
        watch.see(CLOSED, after_ms=10)
        watch.see(CLOSED, after_ms=DEBOUNCE_MS)
    assert watch.wants_proof()


def test_a_fault_in_the_middle_of_the_proof_begins_it_anew() -> None:
    watch = Watch().faulty()
    watch.see(OPEN, after_ms=10)
    assert watch.memory.opened
    watch.see(SPLIT, after_ms=10)
    watch.see(SPLIT, after_ms=DISCREPANCY_MS)
    watch.see(CLOSED, after_ms=10)
    watch.see(CLOSED, after_ms=DEBOUNCE_MS)
    assert watch.wants_proof()


def test_silence_neither_ends_nor_undoes_the_proof() -> None:
    watch = Watch().faulty()
    watch.see(SILENT, after_ms=10)
    assert watch.wants_proof()
    watch.see(OPEN, after_ms=10)
    watch.see(SILENT, after_ms=10)
    assert watch.wants_proof()
    watch.see(CLOSED, after_ms=10)
    watch.see(CLOSED, after_ms=DEBOUNCE_MS)
    assert not watch.wants_proof()


def test_a_plan_may_do_without_the_proof() -> None:
    watch = Watch(replace(SPEC, proof_cycle=False)).faulty()
    assert not watch.wants_proof()


def test_the_proof_that_was_due_before_a_restart_is_due_after_it() -> None:
    watch = Watch(memory=replace(FRESH_CONTACT, needs_cycle=True)).closed()
    assert watch.wants_proof()


# ---- whatever comes

READINGS = st.sampled_from([CLOSED, OPEN, SPLIT, OTHER_SPLIT, SILENT, BROKEN, reading(True), reading(None)])


@given(st.lists(st.tuples(READINGS, st.integers(0, 60)), max_size=30))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_contact_is_only_called_closed_when_it_reads_closed_and_did_for_the_debounce(
    steps: list[tuple[Reading, int]],
) -> None:
    watch = Watch()
    closed_since_ns: int | None = None
    for seen, ms in steps:
        contact = watch.see(seen, after_ms=ms)
        reads_closed = seen.quality is Quality.GOOD and seen.value is True and seen.second is not False
        if not reads_closed:
            closed_since_ns = None
        elif closed_since_ns is None:
            closed_since_ns = watch.now_ns
        proven = closed_since_ns is not None and watch.now_ns - closed_since_ns >= DEBOUNCE_MS * MS
        assert (contact.closed is True) == proven
        if seen.quality is Quality.GOOD and seen.value is False:
            assert contact.closed is False


@given(st.lists(st.tuples(READINGS, st.integers(0, 60)), max_size=30))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_proof_that_is_due_ends_only_with_both_contacts_seen_open_and_then_closed(
    steps: list[tuple[Reading, int]],
) -> None:
    watch = Watch(memory=replace(FRESH_CONTACT, needs_cycle=True))
    opened = False
    for seen, ms in steps:
        contact = watch.see(seen, after_ms=ms)
        opened = opened or (seen.quality is Quality.GOOD and seen.value is False and seen.second is not True)
        if not watch.wants_proof():
            assert opened
            assert contact.closed
            break
