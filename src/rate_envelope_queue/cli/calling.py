"""The user's function, called with a line: what it gets, and how what it returns becomes a line of output."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from .. import AsyncContext, Context, Decision, Envelope, EnvelopeType, drop, events, retry_with_backoff
from ..text import bounded_repr, error_text, escaped
from .ledger import Dead, Done, Ledger
from .lines import Line
from .options import UsageFault

InputFormat = Literal["text", "jsonl", "nul"]
OutputFormat = Literal["values", "records"]
DELIMITERS: dict[InputFormat, bytes] = {"text": b"\n", "jsonl": b"\n", "nul": b"\0"}


class InvalidLineError(ValueError):
    """A line that is not what the input was said to be."""


def is_coroutine_function(function: Any) -> bool:
    """Whether a call of *function* is to be awaited."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def check_function(function: Any, target: str) -> None:
    """`UsageFault` for what cannot be called with one line."""
    shown = escaped(target, 200)
    if isinstance(function, EnvelopeType):
        raise UsageFault(
            f"{shown} is the handler of a queue, called as (ctx, envelope): map wants a function of a line"
        )
    if not callable(function):
        raise UsageFault(f"{shown} cannot be called: it is {bounded_repr(function)}")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise UsageFault(f"{shown} cannot be called with one line: {error_text(error, 200)}") from None
    except ValueError:  # built in, without a signature
        pass


def value_of(line: Line, kind: InputFormat) -> Any:
    """What the function gets: text, or what the JSON says. Bytes that are not UTF-8 become lone surrogates."""
    if kind != "jsonl":
        raw = line.raw.removesuffix(b"\r") if kind == "text" else line.raw
        return raw.decode("utf-8", "surrogateescape")
    try:
        return json.loads(line.raw)
    except (ValueError, RecursionError) as error:
        raise InvalidLineError(f"not JSON: {error}") from None


class Encoder:
    """Makes the line of output of what the function has returned. *is_ascii* escapes all that a terminal might obey."""

    def __init__(self, kind: OutputFormat, *, is_ascii: bool) -> None:
        self._is_record, self._is_ascii = kind == "records", is_ascii

    def __call__(self, line: Line, result: Any) -> Done:
        """The record of *line*; one that says what is wrong when *result* is not JSON."""
        try:
            return Done(self._dumped({"line": line.number, "result": result} if self._is_record else result))
        except Exception as error:
            record = {"line": line.number, "error": f"the result is not JSON: {error_text(error, 300)}"}
            return Done(self._dumped(record), is_fault=True)

    def _dumped(self, value: Any) -> bytes:
        text = json.dumps(value, ensure_ascii=self._is_ascii, allow_nan=False)
        try:
            return text.encode() + b"\n"
        except UnicodeEncodeError:  # a lone surrogate
            return json.dumps(value, allow_nan=False).encode() + b"\n"


def handler(function: Any, kind: InputFormat, encode: Encoder, ledger: Ledger) -> Any:
    """The handler of the envelopes of *function*, of its flavour."""

    def call(ctx: Context, envelope: Envelope[Line]) -> None:
        line = envelope.payload
        ledger.settle(line, encode(line, function(value_of(line, kind))))

    async def call_async(ctx: AsyncContext, envelope: Envelope[Line]) -> None:
        line = envelope.payload
        ledger.settle(line, encode(line, await function(value_of(line, kind))))

    return call_async if is_coroutine_function(function) else call


def envelope_type(
    function: Any, invoke: Any, ledger: Ledger, now: Callable[[], str], *, deadline: float | None, retries: int
) -> EnvelopeType[Line]:
    """The kind of all envelopes: retried by backoff, unless the line itself is wrong."""

    def decide(ctx: object, envelope: Envelope[Line], error: BaseException) -> Decision:
        if isinstance(error, InvalidLineError):
            return drop("not valid input")
        return retry_with_backoff() if retries else drop()

    def after(ctx: Any, envelope: Envelope[Line]) -> None:
        """After a success, which is settled; and after StopEnvelope, which is no success, and of which nobody tells."""
        ledger.settle(envelope.payload, Dead("StopEnvelope", "the function has given up", ctx.attempt, now()))

    name = getattr(function, "__name__", None) or type(function).__name__
    return EnvelopeType(
        name, invoke=invoke, deadline=deadline, max_attempts=retries + 1, failure_hook=decide, after_hook=after
    )


class Deaths(events.Observer):
    """Tells the ledger of lines that were dropped."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_dropped(self, event: events.Dropped) -> None:
        """A line has failed for good."""
        letter = event.letter
        dead = Dead(letter.error, letter.reason, letter.attempts, letter.at_utc.isoformat(timespec="milliseconds"))
        self._ledger.settle(letter.envelope.payload, dead)
