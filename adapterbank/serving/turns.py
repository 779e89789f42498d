"""Slots that threads take turns at: first come, first served, and a thread never waits for itself."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from threading import Condition, get_ident
from typing import Generic, Protocol, TypeVar

from adapterbank.errors import UsageError


class Turn(Protocol):
    """What is taken in turns: ``holds`` says what is in it, ``owner`` which thread has it, so many times over."""

    owner: int | None
    times: int

    @property
    def holds(self) -> Hashable | None: ...


S = TypeVar("S", bound=Turn)


@dataclass(slots=True, eq=False)
class _Waiting(Generic[S]):
    thread: int
    among: Sequence[S]
    wanted: Hashable
    slot: S | None = None


class Turns(Generic[S]):
    """Hands out ``slots``. Safe to share between threads."""

    def __init__(self, slots: Iterable[S]) -> None:
        self.slots = tuple(slots)
        self._line: list[_Waiting[S]] = []
        self._changed = Condition()

    def take(self, among: Sequence[S], wanted: Hashable) -> S:
        """One of these for the calling thread, which gives it back as often as it takes it: the one that it has already, if
        that holds ``wanted``; else a free one, if there is one that holds ``wanted``; else the next that becomes free.

        Raises UsageError where waiting would have no end: all slots belong to threads that wait themselves.
        """
        me = get_ident()
        with self._changed:
            slot = next((slot for slot in among if slot.owner == me and slot.holds == wanted), None)
            if slot is None:
                slot = self._waited_for(_Waiting(me, among, wanted))
            slot.owner, slot.times = me, slot.times + 1
        return slot

    def give_back(self, slot: S) -> None:
        """End of a turn."""
        with self._changed:
            slot.times -= 1
            if not slot.times:
                slot.owner = None
                self._hand_out()

    def _waited_for(self, mine: _Waiting[S]) -> S:
        self._line.append(mine)
        try:
            self._hand_out()
            if mine.slot is None:
                self._check_ends(mine)
            while mine.slot is None:
                self._changed.wait()
        except BaseException:
            if mine.slot is not None:
                mine.slot.owner = None
            else:
                self._line.remove(mine)
            self._hand_out()
            raise
        return mine.slot

    def _hand_out(self) -> None:
        """Free slots to those that wait, in the order in which they came; whom no free one suits holds nobody up."""
        for each in list(self._line):
            free = [slot for slot in each.among if slot.owner is None]
            if free:
                each.slot = next((slot for slot in free if slot.holds == each.wanted), free[0])
                each.slot.owner = each.thread
                self._line.remove(each)
                self._changed.notify_all()

    def _check_ends(self, mine: _Waiting[S]) -> None:
        stuck = {each.thread for each in self._line}
        if all(slot.owner == mine.thread for slot in mine.among) or all(slot.owner in stuck for slot in self.slots):
            raise UsageError(
                "this thread holds the slot already, and would wait for itself",
                hint="leave the block of using() first, or attach with more slots",
            )
