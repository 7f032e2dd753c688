"""Linearisability, after Wing and Gong: is there an order of concurrent calls that a single caller could have made?

A history says of each call who made it, what it answered, and when it was made and returned. It is linearisable when
all calls can be put in one order, in which no call comes before one that had returned when it was made, and in which a
specification, asked one call after another, gives the answers that were given. What was tried is remembered (where
every process stands, and the state of the specification), so that no state is searched twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

MOST = 20_000  # states, some seconds; few histories need more than some hundred


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one process: made at `called`, answered at `returned` (inf: nobody knows when)."""

    name: str
    arguments: tuple[Any, ...]
    answer: Any
    called: float
    returned: float = inf

    def __str__(self) -> str:
        given = ", ".join(map(str, self.arguments))
        return f"[{self.called:>4} {self.returned:>4}] {self.name}({given}) -> {self.answer}"


class Specification(Protocol):
    """What a single caller sees. Never changed: each step makes another, unless it leaves all as it is."""

    def after(self, call: Call) -> Specification | None:
        """What *call* leaves behind, itself when nothing; None when it cannot be answered so now."""
        ...

    def moves(self) -> Iterable[Specification]:
        """What it may do by itself, at any time."""
        ...

    def key(self) -> Hashable:
        """The same for two that nobody can tell apart from now on."""
        ...


History = Sequence[Sequence[Call]]  # the calls of each process, in its order
Trail = tuple[Any, Call] | None  # the order so far, from its end
Step = tuple[tuple[int, ...], "Specification", Trail]  # where each process stands, the state, and how it came to that


class UndecidedError(Exception):
    """The search was given up: too much of the history happened at the same time."""


class NotLinearisableError(AssertionError):
    """No order explains the history. `longest` is as far as any got, `left` what each process would have done next."""

    def __init__(self, longest: list[Call], left: list[Call], spec: Specification, tried: int) -> None:
        self.longest, self.left = longest, left
        lines = ["no order explains it; the longest that does:", *(f"  {call}" for call in longest)]
        lines += [f"and then none of these, {tried} states tried:", *(f"  {call}" for call in left), f"after {spec}"]
        super().__init__("\n".join(lines))


def linearise(history: History, start: Specification) -> list[Call]:
    """An order that explains *history*, from *start* on; NotLinearisableError when there is none, or UndecidedError."""
    history = [process for process in history if process]
    ends = tuple(len(process) for process in history)
    todo: list[Step] = [((0,) * len(history), start, None)]
    seen: set[Hashable] = set()
    longest = todo[0]
    while todo:
        here = positions, spec, trail = todo.pop()
        state = (positions, spec.key())
        if state in seen:
            continue
        seen.add(state)
        if len(seen) > MOST:
            raise UndecidedError
        if positions == ends:
            return order_of(trail)
        if sum(positions) > sum(longest[0]):
            longest = here
        todo += steps(history, positions, spec, trail)
    positions, spec, trail = longest
    left = [process[at] for process, at in zip(history, positions, strict=True) if at < len(process)]
    raise NotLinearisableError(order_of(trail), left, spec, len(seen))


def steps(history: History, positions: tuple[int, ...], spec: Specification, trail: Trail) -> list[Step]:
    """What may come next, the best guess last. What only looks and is right now may as well come now as later."""
    found: list[Step] = [(positions, moved, trail) for moved in spec.moves()]
    for number, call in reversed(candidates(history, positions)):
        following = spec.after(call)
        if following is not None:
            moved_on = (*positions[:number], positions[number] + 1, *positions[number + 1 :])
            found.append((moved_on, following, (trail, call)))
            if following is spec:
                return found[-1:]
    return found


def candidates(history: History, positions: tuple[int, ...]) -> list[tuple[int, Call]]:
    """Who may come next: calls made before any other that is left had returned. Who returns first is tried first."""
    following = [
        (number, process[at])
        for number, (process, at) in enumerate(zip(history, positions, strict=True))
        if at < len(process)
    ]
    first = min((call.returned for _, call in following), default=inf)
    return sorted((pair for pair in following if pair[1].called <= first), key=lambda pair: pair[1].returned)


def order_of(trail: Trail) -> list[Call]:
    """The calls of *trail*, the first one first."""
    order: list[Call] = []
    while trail is not None:
        trail, call = trail
        order.append(call)
    return order[::-1]
