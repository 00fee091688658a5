"""The order of service is one visitor's turn after the other's, whoever has how many."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_app.serving.line import Line


@dataclass(eq=False)
class Ticket:
    whose: str
    number: int = 0


def lined_up(*whose: str) -> tuple[Line, list[Ticket]]:
    line, tickets = Line(), [Ticket(one, number) for number, one in enumerate(whose)]
    for ticket in tickets:
        line.join(ticket)
    return line, tickets


def served(line: Line) -> str:
    order = ""
    while (ticket := line.first(lambda _: True)) is not None:
        line.serve(ticket)
        order += ticket.whose
    return order


@pytest.mark.parametrize(
    ("came", "order"),
    [("", ""), ("aaa", "aaa"), ("aaaab", "abaaa"), ("aabbc", "abcab"), ("abcabc", "abcabc"), ("baaac", "bacaa")],
)
def test_turn_about(came: str, order: str):
    line, _ = lined_up(*came)
    assert "".join(ticket.whose for ticket in line) == order
    assert served(line) == order and len(line) == 0


def test_one_with_fifty_does_not_starve_one_with_one():
    line, tickets = lined_up(*("a" * 50))
    line.serve(tickets[0])
    late = Ticket("b")
    line.join(late)
    assert line.before(late) == 1


def test_who_was_just_served_comes_after_who_waited():
    line, (first, _) = lined_up("a", "b")
    line.serve(first)
    line.join(Ticket("a"))
    assert served(line) == "ba"


def test_leaving_moves_the_others_up():
    line, (a, b, c) = lined_up("a", "b", "c")
    line.leave(b)
    assert (line.before(a), line.before(c), b in line, len(line)) == (0, 1, False, 2)
    line.leave(b)
    with pytest.raises(KeyError):
        line.before(b)
    assert served(line) == "ac"


def test_who_is_not_ready_is_passed_over_and_keeps_the_place():
    line, (a, b, _) = lined_up("a", "b", "a")
    assert line.first(lambda ticket: ticket is not a) is b
    line.serve(b)
    assert line.before(a) == 0
    assert line.first(lambda _: False) is None


@given(st.lists(st.sampled_from("abcd"), max_size=30))
def test_nobody_is_served_twice_before_anyone_who_waits_is_served_once(came: list[str]):
    line, tickets = lined_up(*came)
    order = served(line)
    for visitor in set(came):
        places = [place for place, one in enumerate(order) if one == visitor]
        for turn, place in enumerate(places):
            # Before its n-th turn every other visitor has had at most n turns, and one more if it came first.
            assert all(order[:place].count(other) <= turn + 1 for other in set(came) - {visitor})
    assert sorted(order) == sorted(came)
