"""Who may still answer an earlier question."""

from drivers.modbus.debts import Debts, Sent

LATE_NS = 1_000
UNIT = 3


def debts() -> Debts:
    return Debts(LATE_NS)


def test_nobody_owes_what_was_not_asked() -> None:
    assert not debts().owes(UNIT, 0)


def test_a_probe_that_comes_back_settles_all() -> None:
    book = debts()
    book.owe(UNIT, Sent(1, 0))
    book.probe(UNIT, Sent(2, 10))
    assert book.owes(UNIT, 20)
    assert not book.owes(UNIT + 1, 20)
    book.came_back(UNIT)
    assert not book.owes(UNIT, 20)


def test_a_refusal_settles_what_came_before_the_earliest_probe_that_is_out() -> None:
    book = debts()
    book.probe(UNIT, Sent(1, 0))
    book.owe(UNIT, Sent(2, 10))
    book.probe(UNIT, Sent(3, 20))
    book.was_refused(UNIT)
    assert book.owes(UNIT, 30)
    book.was_refused(UNIT)
    assert not book.owes(UNIT, 30)


def test_one_that_came_back_leaves_no_earlier_one_out() -> None:
    book = debts()
    book.probe(UNIT, Sent(1, 0))
    book.probe(UNIT, Sent(2, 0))
    book.came_back(UNIT)
    book.owe(UNIT, Sent(3, 10))
    book.probe(UNIT, Sent(4, 20))
    book.was_refused(UNIT)
    assert not book.owes(UNIT, 30)


def test_at_a_new_line_an_earlier_probe_may_be_out_too() -> None:
    book = debts()
    book.begin(UNIT, Sent(5, 0))
    book.probe(UNIT, Sent(6, 10))
    book.was_refused(UNIT)
    assert book.owes(UNIT, 20)
    book.probe(UNIT, Sent(7, 20))
    book.was_refused(UNIT)
    assert not book.owes(UNIT, 20)


def test_a_unit_that_ignores_probes_owes_until_it_is_late() -> None:
    book = debts()
    book.owe(UNIT, Sent(1, 0))
    book.probe(UNIT, Sent(2, 500))
    assert book.owes(UNIT, LATE_NS - 1)
    assert not book.owes(UNIT, LATE_NS)


def test_a_unit_that_has_answered_one_owes_until_it_answers_another() -> None:
    for answer in (Debts.came_back, Debts.was_refused):
        book = debts()
        book.probe(UNIT, Sent(1, 0))
        answer(book, UNIT)
        book.owe(UNIT, Sent(2, 10))
        assert book.owes(UNIT, 100 * LATE_NS)


def test_a_probe_that_is_late_is_out_no_more() -> None:
    book = debts()
    book.probe(UNIT, Sent(1, 0))
    book.owe(UNIT, Sent(2, 10))
    book.probe(UNIT, Sent(3, LATE_NS))
    book.was_refused(UNIT)
    assert not book.owes(UNIT, LATE_NS)
