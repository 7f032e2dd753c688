"""Who goes on: by a seed, or by enumeration."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import Actor, World


class Policy:
    """Says who goes on, and what fails."""

    def interrupts(self, world: World, what: str) -> bool:
        """Whether the actor at work is to be interrupted at *what*."""
        raise NotImplementedError

    def choose(self, world: World, ready: list[Actor]) -> Actor:
        """The one of *ready* that goes on."""
        raise NotImplementedError

    def fails(self, what: str) -> bool:
        """Whether something fails that may."""
        return False

    def end(self) -> None:
        """What matters has been done."""


class RandomWalk(Policy):
    """A seed decides. How often actors are interrupted, and whether anything fails, is itself drawn for each seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.restlessness = self.random.choice((0.0, 0.05, 0.3, 0.7))
        self.misfortune = self.random.choice((0.0, 0.0, 0.1))

    def interrupts(self, world: World, what: str) -> bool:
        return self.random.random() < self.restlessness

    def choose(self, world: World, ready: list[Actor]) -> Actor:
        return ready[int(self.random.random() * len(ready))]

    def fails(self, what: str) -> bool:
        return self.misfortune > 0 and self.random.random() < self.misfortune


class Enumeration(Policy):
    """Every order with at most *interruptions* interruptions, one after another.

    Where an actor cannot go on, each of the others is tried; where it can, so is going on, and each of the others as
    one interruption. `next_order` moves to the next order; the choices so far are `script`.
    """

    def __init__(self, interruptions: int, places: Collection[str]) -> None:
        self.places = places
        self.most = interruptions
        self.script: list[tuple[int, int]] = []  # what was chosen, of how many
        self.begin()

    def begin(self) -> None:
        self.is_over = False
        self.at = 0
        self.left = self.most
        self.chosen: Actor | None = None

    def next_order(self) -> bool:
        """False when all were tried."""
        while self.script:
            choice, count = self.script.pop()
            if choice + 1 < count:
                self.script.append((choice + 1, count))
                self.begin()
                return True
        return False

    def _pick(self, count: int) -> int:
        if count == 1 or self.is_over:
            return 0
        if self.at == len(self.script):
            self.script.append((0, count))
        choice, known = self.script[self.at]
        assert known == count, "the program is not the same as before"
        self.at += 1
        return choice

    def interrupts(self, world: World, what: str) -> bool:
        if not self.left or what not in self.places or self.is_over:
            return False
        others = [actor for actor in world.actors if self._could_go_on(world, actor)]
        choice = self._pick(len(others) + 1)
        if choice == 0:
            return False
        self.left -= 1
        self.chosen = others[choice - 1]
        return True

    def _could_go_on(self, world: World, actor: Actor) -> bool:
        return not actor.is_over and actor is not world.me and actor.can_go_on(world.now)

    def end(self) -> None:
        """From here on there is one order."""
        self.is_over = True

    def choose(self, world: World, ready: list[Actor]) -> Actor:
        chosen, self.chosen = self.chosen, None
        return chosen if chosen is not None else ready[self._pick(len(ready))]
