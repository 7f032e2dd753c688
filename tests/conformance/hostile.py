"""Exceptions of user code that do all they can to end whoever touches them."""

from __future__ import annotations

import asyncio
import concurrent.futures


class StrRaises(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")


class ReprRaises(Exception):
    def __repr__(self):
        raise RuntimeError("no repr for you")


class BothExit(Exception):
    def __str__(self):
        raise SystemExit("from __str__")

    def __repr__(self):
        raise KeyboardInterrupt("from __repr__")


class StrIsNoText(Exception):
    def __str__(self):
        return 5


class NoFormat(str):
    __slots__ = ()

    def __format__(self, spec):
        raise RuntimeError("no format for you")

    def isascii(self):
        raise RuntimeError("no such question")


class StrIsNoPlainText(Exception):
    def __str__(self):
        return NoFormat("a text of its own kind")


class Unhashable(Exception):
    def __eq__(self, other):
        raise RuntimeError("no comparison")


class NoTruth(Exception):
    def __bool__(self):
        raise RuntimeError("neither")

    def __len__(self):
        raise RuntimeError("no length")


class CauseRaises(Exception):
    @property
    def __cause__(self):
        raise RuntimeError("no cause for you")


class CauseIsNonsense(Exception):
    __cause__ = "because"


class ContextRaises(Exception):
    @property
    def __context__(self):
        raise RuntimeError("no context for you")


class TracebackRaises(Exception):
    @property
    def __traceback__(self):
        raise RuntimeError("no traceback for you")


class WithTracebackRaises(Exception):
    def with_traceback(self, traceback):
        raise RuntimeError("no new traceback either")


class Nameless(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name for you")


class NoName(Exception, metaclass=Nameless):
    pass


class ShiftingGroup(ExceptionGroup):
    @property
    def exceptions(self):
        raise RuntimeError("no members for you")


class OwnBase(BaseException):
    pass


def recursion():
    return recursion()


def deep_recursion():
    try:
        recursion()
    except RecursionError as error:
        return error
    raise AssertionError("no recursion limit")


def circle():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def from_no_truth():
    error = ValueError("from one that is neither true nor false")
    error.__cause__ = NoTruth()
    return error


def deep_group():
    error = ValueError("innermost")
    for _ in range(3000):
        error = ExceptionGroup("deeper", [error])
    return error


def long_chain():
    error = ValueError("first")
    for _ in range(3000):
        after = ValueError("next")
        after.__cause__ = error
        error = after
    return error


ERRORS = {
    "ValueError": ValueError,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "asyncio.CancelledError": asyncio.CancelledError,
    "futures.CancelledError": concurrent.futures.CancelledError,
    "TimeoutError": TimeoutError,
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": StopAsyncIteration,
    "MemoryError": MemoryError,
    "AssertionError": AssertionError,
    "RecursionError": deep_recursion,
    "own BaseException": OwnBase,
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError(), KeyError()]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("two", [SystemExit(), ValueError()]),
    "__str__ raises": StrRaises,
    "__repr__ raises": ReprRaises,
    "__str__ exits": BothExit,
    "__str__ gives an int": StrIsNoText,
    "__str__ gives a hostile str": StrIsNoPlainText,
    "unhashable": Unhashable,
    "no truth": NoTruth,
    "__cause__ raises": CauseRaises,
    "__cause__ is no error": CauseIsNonsense,
    "__cause__ has no truth": from_no_truth,
    "__context__ raises": ContextRaises,
    "__traceback__ raises": TracebackRaises,
    "with_traceback raises": WithTracebackRaises,
    "class without a name": NoName,
    "exceptions raises": lambda: ShiftingGroup("two", [ValueError()]),
    "causes in a circle": circle,
    "3000 groups deep": deep_group,
    "3000 causes long": long_chain,
}
