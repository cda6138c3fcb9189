"""A drawing goes on while its visitor waits for it."""

import pytest

pytest.importorskip("gradio")

from amdm.page.awaited import Awaited


@pytest.fixture
def awaited():
    return Awaited()


@pytest.fixture
def closed():
    return []


@pytest.fixture
def draw(awaited, closed):
    def steps(count):
        try:
            yield from range(count)
        finally:
            closed.append(count)

    return awaited.only(steps, "last")


def test_a_drawing_that_is_awaited_is_drawn_whole(awaited, draw, closed):
    assert list(draw(awaited.instead_of(0), 3)) == [0, 1, 2] and closed == [3]


def test_a_drawing_that_is_given_up_ends_at_its_next_step(awaited, draw, closed):
    number = awaited.instead_of(0)
    drawn = draw(number, 10)
    assert next(drawn) == 0
    awaited.give_up(number)
    assert list(drawn) == ["last"] and closed == [10]


def test_a_new_drawing_ends_the_one_before_and_no_other_visitors(awaited, draw):
    mine, theirs = awaited.instead_of(0), awaited.instead_of(0)
    before, other = draw(mine, 5), draw(theirs, 5)
    next(before), next(other)
    again = draw(awaited.instead_of(mine), 2)
    assert list(before) == ["last"] and list(again) == [0, 1] and list(other) == [1, 2, 3, 4]


def test_a_drawing_that_waits_its_turn_can_be_given_up(awaited, draw):
    number = awaited.instead_of(0)
    awaited.give_up(number)
    assert list(draw(number, 3)) == ["last"]
