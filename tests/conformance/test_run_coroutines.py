"""Contract section 2: what a thread queue does with coroutines and generators, whichever way they come in."""

from __future__ import annotations

import gc
from functools import partial

import pytest

from rate_envelope_queue import Envelope, InvalidEnvelopeError, logging_stamp, retry_now

from .harness import blocking_only
from .running import Seen, finish, goes_on, marks, raises, run, started


async def coroutine(*args):
    """A handler or hook that a thread never runs."""


class AsyncCallable:
    """The same as an object."""

    async def __call__(self, *args):
        """Never runs."""


class GeneratorCallable:
    """An object that only makes a generator."""

    def __call__(self, *args):
        yield


def generator(*args):
    """A handler or hook that never runs."""
    yield


async def async_generator(*args):
    """A handler or hook that never runs."""
    yield


GENERATORS = {
    "generator": generator,
    "async generator": async_generator,
    "partial": partial(partial(generator, 1), 2),
    "object": GeneratorCallable(),
    "method": GeneratorCallable().__call__,
    "partial of an object": partial(GeneratorCallable(), 1),
}
PLACES = ["invoke", "before_hook", "after_hook", "success_hook", "failure_hook"]


@pytest.mark.parametrize("place", [*PLACES, "stamps"])
@pytest.mark.parametrize("function", GENERATORS.values(), ids=GENERATORS)
def test_2_generator_functions_are_refused(place, function):
    """2: a generator function is refused by name when the envelope is made: calling it runs nothing."""
    given = {"invoke": print, place: [function] if place == "stamps" else function}
    with pytest.raises(InvalidEnvelopeError, match=rf"^{place} must be .* never runs"):
        Envelope(**given)


def test_2_generator_functions_are_refused_as_stamps_of_a_queue(h):
    """2: a generator function is refused as a stamp of the queue too."""
    with pytest.raises(TypeError, match=r"stamps must be .* never runs"):
        h.queue(stamps=[generator])


@blocking_only("a loop awaits coroutines, see test_asyncio_coroutines")
@pytest.mark.parametrize("place", [*PLACES, "stamps"])
@pytest.mark.parametrize(
    "function", [coroutine, partial(partial(coroutine, 1), 2), AsyncCallable(), partial(AsyncCallable(), 1)]
)
def test_2_coroutine_functions_are_refused(h, place, function):
    """2: `EnvelopeQueue` refuses coroutine functions, inside `partial` and as objects too, stamps included."""
    queue = h.queue()
    given = {"invoke": print, place: [function] if place == "stamps" else function}
    with pytest.raises(InvalidEnvelopeError, match="AsyncEnvelopeQueue"):
        queue.send(Envelope(**given))
    assert len(queue) == 0


@blocking_only("a loop awaits coroutines, see test_asyncio_coroutines")
@pytest.mark.parametrize("owner", ["queue", "envelope"])
@pytest.mark.parametrize(
    "answer",
    [lambda: coroutine, AsyncCallable, lambda: generator, coroutine],
    ids=["coroutine function", "object", "generator function", "coroutine"],
)
def test_2_a_stamp_whose_invoker_is_async_is_a_failed_run(h, owner, answer):
    """2: a stamp that makes an invoker which no thread can run is a failed run that says so: invoke does not count as
    done."""
    stamps = {"stamps": [lambda next: answer()]}
    queue, seen = run(
        h,
        Envelope(marks(h, "invoke"), **(stamps if owner == "envelope" else {})),
        **(stamps if owner == "queue" else {}),
    )
    (event,) = seen.failed
    assert isinstance(event.error, InvalidEnvelopeError)
    assert "the stamp" in str(event.error)
    assert (h.labels(), queue.stats().dropped) == ([], 1)


SHAPES = {
    "bare": {},
    "with a deadline": {"deadline": 30},
    "with hooks": {"after_hook": lambda *args: None},
    "stamped": {"stamps": [lambda next: lambda ctx, envelope: next(ctx, envelope)]},
    "logged": {"stamps": [logging_stamp("mail")]},
}


@blocking_only("a loop awaits coroutines, see test_asyncio_coroutines")
@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_2_a_handler_that_returns_a_coroutine_is_a_failed_run(h, options):
    """2: what a lambda hides shows when it runs: a coroutine is not awaited in a thread, so the run has failed and
    says why; nothing warns of a coroutine that was never awaited."""
    seen = Seen()
    queue = started(h, observers=(seen,))
    envelope = Envelope(lambda ctx, envelope: coroutine(), success_hook=None, **options)
    future = queue.submit(envelope)
    finish(queue)
    assert isinstance(future.exception(timeout=0), TypeError)
    (event,) = seen.failed
    assert "not awaited: use AsyncEnvelopeQueue" in str(event.error)
    assert (queue.stats().succeeded, queue.stats().dropped) == (0, 1)
    del event, envelope, future
    gc.collect()
    goes_on(h, queue)


@blocking_only("a loop awaits coroutines, see test_asyncio_coroutines")
def test_2_a_handler_that_returns_a_coroutine_asks_the_failure_hook(h):
    """2: such a run fails like any other: the failure hook decides."""
    coroutines = [coroutine()]
    invoke = lambda ctx, envelope: coroutines.pop() if coroutines else h.mark("plain")  # noqa: E731
    queue, _ = run(h, Envelope(invoke, failure_hook=lambda *args: retry_now()))
    assert (h.labels(), queue.stats().runs_failed, queue.stats().succeeded) == (["plain"], 1, 1)


@blocking_only("a loop awaits coroutines, see test_asyncio_coroutines")
@pytest.mark.parametrize("place", ["before_hook", "after_hook", "success_hook", "failure_hook"])
def test_2_a_hook_that_returns_a_coroutine_has_failed(h, place):
    """2: a hook that returns a coroutine has not run: a before hook fails the run, another is reported."""
    invoke = raises(ValueError) if place == "failure_hook" else marks(h, "invoke")
    queue, seen = run(h, Envelope(invoke, **{place: lambda *args: coroutine()}))
    reports = seen.failed if place == "before_hook" else seen.hook_failed
    assert ["not awaited" in str(event.error) for event in reports] == [True]
    assert queue.stats().succeeded == (place in ("after_hook", "success_hook"))


def test_2_other_results_are_results(h):
    """2: a generator or any other object that a handler returns is its result."""
    queue = started(h)
    results = [1, "text", (each for each in "ab"), AsyncCallable(), coroutine]
    futures = [queue.submit(Envelope(lambda ctx, envelope: envelope.payload, payload=result)) for result in results]
    finish(queue)
    assert all(future.result(timeout=0) is result for future, result in zip(futures, results, strict=True))
