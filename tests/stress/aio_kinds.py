"""What a coroutine can do about its cancellation, and about that of others: the handlers and hooks of the torture.

Each kind is given its `Phase`, the part of a run in which it is called. `phase.aim` is an instant within 0.3 ms of the
phase's deadline. A kind that catches a CancelledError shows it to `phase.caught`, which says whether it had a cause.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rate_envelope_queue import RetryEnvelope

if TYPE_CHECKING:
    from .aio_torture import Phase

now = time.monotonic
LONG = 0.08  # longer than any deadline or budget here, by more than a busy machine is late


class Nasty(Exception):
    """An error that is the handler's own."""


@dataclass(frozen=True)
class Kind:
    """One kind of handler. `is_own`: a CancelledError may be of its own making, or of the standard library's."""

    name: str
    call: Callable[[Phase], Any]
    is_own: bool = False
    is_plain: bool = False
    needs_deadline: bool = False


KINDS: list[Kind] = []


def kind(**options: bool) -> Callable[[Callable[[Phase], Any]], Callable[[Phase], Any]]:
    """A decorator that adds a kind to `KINDS`."""

    def add(call: Callable[[Phase], Any]) -> Callable[[Phase], Any]:
        KINDS.append(Kind(call.__name__, call, **options))
        return call

    return add


async def spin(until: float) -> None:
    """Let the loop go round until then: more exact than any timer."""
    while now() < until:
        await asyncio.sleep(0)


async def catching(phase: Phase, awaited: Awaitable[Any]) -> bool:
    """Await it; whether that was cancelled."""
    try:
        await awaited
    except CancelledError:
        phase.caught()
        return True
    return False


# Ordinary ones


@kind()
async def returns_at_once(phase: Phase) -> None: ...


@kind()
async def comes_back(phase: Phase) -> None:
    if phase.ctx.attempt == 1:
        raise RetryEnvelope


@kind()
async def yields_once(phase: Phase) -> None:
    await asyncio.sleep(0)


@kind()
async def sleeps_to_the_deadline(phase: Phase) -> None:
    await asyncio.sleep(phase.aim - now())


@kind()
async def spins_to_the_deadline(phase: Phase) -> None:
    await spin(phase.aim)


@kind(needs_deadline=True)
async def overruns(phase: Phase) -> None:
    await asyncio.sleep(LONG)
    phase.wrong("went on past its deadline, and nobody cancelled it")


@kind()
async def waits_on_its_context(phase: Phase) -> None:
    await phase.ctx.wait(phase.aim - now() if phase.ctx.deadline is None else LONG)


@kind()
async def looks_out_for_a_stop(phase: Phase) -> None:
    until = now() + 0.015
    while now() < until and not phase.ctx.cancelled:
        await asyncio.sleep(0.002)
        if phase.ctx.cancelled:
            phase.wrong("goes on under a cancelled context, and nobody cancelled it")


@kind()
async def gathers(phase: Phase) -> None:
    await asyncio.gather(spin(phase.aim), asyncio.sleep(0), asyncio.sleep(phase.aim - now()))


@kind()
async def shields(phase: Phase) -> None:
    await asyncio.shield(phase.kid(spin(phase.aim + 0.001)))


@kind()
async def blocks_the_loop(phase: Phase) -> None:
    await asyncio.sleep(0)
    time.sleep(max(0.0, phase.aim - now()))


@kind()
async def blocks_the_loop_and_awaits(phase: Phase) -> None:
    time.sleep(max(0.0, phase.aim - now()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# They catch it


@kind()
async def swallows(phase: Phase) -> None:
    await catching(phase, spin(phase.aim))


@kind()
async def swallows_and_raises(phase: Phase) -> None:
    try:
        await spin(phase.aim)
    except CancelledError:
        phase.caught()
        raise Nasty from None


@kind()
async def swallows_and_raises_timeout_error(phase: Phase) -> None:
    try:
        await spin(phase.aim)
    except CancelledError:
        phase.caught()
        raise TimeoutError("mine") from None


@kind()
async def swallows_and_goes_on(phase: Phase) -> None:
    if await catching(phase, spin(phase.aim)):
        await spin(now() + 0.001)


@kind()
async def swallows_all(phase: Phase) -> None:
    while now() < phase.aim + 0.0005:
        await catching(phase, asyncio.sleep(0))


@kind()
async def awaits_in_finally(phase: Phase) -> None:
    try:
        await spin(phase.aim)
    finally:
        await asyncio.sleep(0)
        await spin(now() + 0.0005)


@kind()
async def swallows_in_finally(phase: Phase) -> None:
    try:
        await spin(phase.aim)
    finally:
        await catching(phase, spin(now() + 0.0005))


@kind()
async def swallows_and_uncancels(phase: Phase) -> None:
    if await catching(phase, spin(phase.aim)):
        phase.task.uncancel()
        await asyncio.sleep(0)


# Errors of their own


@kind()
async def raises(phase: Phase) -> None:
    await spin(phase.aim)
    raise Nasty


@kind()
async def raises_timeout_error(phase: Phase) -> None:
    await spin(phase.aim)
    raise TimeoutError("mine")


@kind(is_own=True)
async def raises_cancelled_error(phase: Phase) -> None:
    raise CancelledError("mine")


@kind(is_own=True)
async def raises_cancelled_error_later(phase: Phase) -> None:
    await spin(phase.aim)
    raise CancelledError("mine")


@kind(is_own=True)
async def awaits_what_is_cancelled(phase: Phase) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    await future


@kind()
async def raises_stop_iteration(phase: Phase) -> None:
    raise StopIteration("mine")


@kind()
async def raises_generator_exit(phase: Phase) -> None:
    await asyncio.sleep(0)
    raise GeneratorExit("mine")


@kind()
async def raises_from_its_cancellation(phase: Phase) -> None:
    try:
        await spin(phase.aim)
    except CancelledError as error:
        phase.caught()
        raise Nasty("mine") from error


# They cancel themselves


@kind(is_own=True)
async def cancels_itself(phase: Phase) -> None:
    phase.task.cancel()


@kind(is_own=True)
async def cancels_itself_and_awaits(phase: Phase) -> None:
    phase.task.cancel()
    await asyncio.sleep(0)


@kind(is_own=True)
async def cancels_itself_twice_and_swallows(phase: Phase) -> None:
    phase.task.cancel()
    phase.task.cancel()
    await catching(phase, asyncio.sleep(0))


@kind(is_own=True)
async def cancels_itself_at_the_deadline(phase: Phase) -> None:
    await spin(phase.aim)
    phase.task.cancel()


@kind(is_own=True)
async def cancels_and_uncancels(phase: Phase) -> None:
    phase.task.cancel()
    phase.task.uncancel()


@kind(is_own=True)
async def cancels_and_uncancels_and_awaits(phase: Phase) -> None:
    phase.task.cancel()
    phase.task.uncancel()
    await asyncio.sleep(0)


@kind(is_own=True)
async def cancels_itself_in_the_next_tick(phase: Phase) -> None:
    asyncio.get_running_loop().call_soon(phase.world.stray, phase.task)


@kind(is_own=True)
async def cancels_itself_soon(phase: Phase) -> None:
    asyncio.get_running_loop().call_later(0.0003, phase.world.stray, phase.task)
    await asyncio.sleep(0)


# The standard library cancels them


@kind(is_own=True)
async def is_timed_out(phase: Phase) -> None:
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + phase.aim - now()):
        await asyncio.sleep(LONG)


@kind(is_own=True)
async def is_not_timed_out(phase: Phase) -> None:
    async with asyncio.timeout(LONG):
        await spin(phase.aim)


@kind(is_own=True)
async def is_timed_out_in_the_tick_of_its_end(phase: Phase) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout_at(loop.time() + phase.aim - now()):
        await spin(phase.aim)


@kind(is_own=True)
async def swallows_its_timeout(phase: Phase) -> None:
    try:
        async with asyncio.timeout(0.0003):
            await asyncio.sleep(LONG)
    except TimeoutError:
        await spin(phase.aim)


@kind(is_own=True)
async def waits_for_too_long(phase: Phase) -> None:
    await asyncio.wait_for(asyncio.sleep(LONG), phase.aim - now())


@kind(is_own=True)
async def waits_for_what_comes(phase: Phase) -> None:
    await asyncio.wait_for(spin(phase.aim), LONG)


async def _fails(until: float) -> None:
    await spin(until)
    raise Nasty


@kind(is_own=True)
async def has_a_group_that_fails(phase: Phase) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fails(phase.aim))
        group.create_task(asyncio.sleep(LONG))
        await asyncio.sleep(LONG)


@kind(is_own=True)
async def has_a_group_that_fails_at_once(phase: Phase) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fails(0.0))
        await spin(phase.aim)


@kind(is_own=True)
async def has_a_group(phase: Phase) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(spin(phase.aim))
        group.create_task(asyncio.sleep(0))


# Kids cancel them


async def _cancels(phase: Phase, until: float) -> None:
    await spin(until)
    phase.world.stray(phase.task)


@kind(is_own=True)
async def is_cancelled_by_its_kid(phase: Phase) -> None:
    await phase.kid(_cancels(phase, phase.aim))


@kind(is_own=True)
async def is_cancelled_by_its_kid_at_its_end(phase: Phase) -> None:
    phase.kid(_cancels(phase, phase.aim))
    await spin(phase.aim)


@kind(is_own=True)
async def is_cancelled_by_its_kid_as_it_is_done(phase: Phase) -> None:
    future = asyncio.get_running_loop().create_future()

    async def end() -> None:
        await spin(phase.aim)
        if not future.done():
            future.set_result(None)
        phase.world.stray(phase.task)

    phase.kid(end())
    await future


# Plain functions, in threads


@kind(is_plain=True)
def plain_returns(phase: Phase) -> None: ...


@kind(is_plain=True)
def plain_sleeps_to_the_deadline(phase: Phase) -> None:
    time.sleep(max(0.0, phase.aim - now()))


@kind(is_plain=True)
def plain_is_slow(phase: Phase) -> None:
    time.sleep(0.01)


@kind(is_plain=True)
def plain_raises(phase: Phase) -> None:
    time.sleep(max(0.0, phase.aim - now()))
    raise Nasty


@kind(is_plain=True)
def plain_raises_stop_iteration(phase: Phase) -> None:
    raise StopIteration("mine")


HOOKS = [each for each in KINDS if not each.is_plain and not each.name.startswith("blocks")]
