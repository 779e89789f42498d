"""Turns at slots: first come, first served; what a thread has it gets again; nobody waits for ever."""

import threading
from dataclasses import dataclass

import pytest

from adapterbank.errors import UsageError
from adapterbank.serving.turns import Turns


@dataclass(eq=False)
class Slot:
    holds: str | None = None
    owner: int | None = None
    times: int = 0


def turns(*holds):
    return Turns([Slot(each) for each in holds])


def waiting(made, count):
    """Once so many threads are in the line."""
    while len(made._line) < count:
        threading.Event().wait(0.001)


def in_threads(*jobs):
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    return threads


def test_who_gives_back_and_asks_again_is_last():
    made, order = turns("a"), []
    slot = made.take(made.slots, "a")

    def ask(name):
        mine = made.take(made.slots, "a")
        order.append(name)
        made.give_back(mine)

    threads = []
    for number, name in enumerate("xyz", 1):
        threads += in_threads(lambda name=name: ask(name))
        waiting(made, number)
    made.give_back(slot)
    made.give_back(made.take(made.slots, "a"))
    order.append("again")
    for thread in threads:
        thread.join(10)
    assert order == ["x", "y", "z", "again"]


def test_a_free_slot_that_holds_what_is_wanted_is_taken_first():
    made = turns("a", "b")
    assert made.take(made.slots, "b") is made.slots[1]
    assert made.take(made.slots, "c") is made.slots[0]


def test_the_same_thread_has_its_slot_again_and_gives_it_back_as_often():
    made = turns("a")
    slot = made.take(made.slots, "a")
    assert made.take(made.slots, "a") is slot
    made.give_back(slot)
    got = []
    (thread,) = in_threads(lambda: got.append(made.take(made.slots, "a")))
    waiting(made, 1)
    assert got == []
    made.give_back(slot)
    thread.join(10)
    assert got == [slot]


def test_a_thread_that_would_wait_for_itself_is_told_so():
    made, said = turns("a"), []

    def ask():
        made.take(made.slots, "a")
        with pytest.raises(UsageError, match="this thread holds the slot already"):
            made.take(made.slots, "b")
        said.append("refused")

    for thread in in_threads(ask):
        thread.join(10)
    assert said == ["refused"] and not made._line


def test_of_threads_that_would_wait_for_each_other_the_last_is_told_so():
    made, held, said = turns("a", "b"), threading.Barrier(2), []

    def ask(name, other):
        slot = made.take(made.slots, name)
        held.wait(10)
        try:
            made.give_back(made.take(made.slots, other))
            said.append("served")
        except UsageError:
            said.append("refused")
        made.give_back(slot)

    for thread in in_threads(lambda: ask("a", "c"), lambda: ask("b", "d")):
        thread.join(10)
    assert sorted(said) == ["refused", "served"]


def test_one_that_waits_for_a_certain_slot_holds_nobody_up():
    made, got = turns("a", "b"), []
    mine = made.take(made.slots[:1], "a")
    (thread,) = in_threads(lambda: got.append(made.take(made.slots[:1], "c")))
    waiting(made, 1)
    assert made.take(made.slots, "d") is made.slots[1]
    made.give_back(mine)
    thread.join(10)
    assert got == [mine]
