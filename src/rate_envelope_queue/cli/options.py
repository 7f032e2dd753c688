"""What the commands share of their options: one prefix for the environment, and the kinds of values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

PREFIX = "RATE_ENVELOPE_QUEUE_"
HOST_PORT = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s]*):)?(?P<port>\d{1,5})")
LOOPBACK = "127.0.0.1"
LARGEST = 1e9

OK = 0
FAILED = 1  # what the command was to do failed in part: `run` gave up on work, `map` has dead lines
USAGE = 2  # click's own
LEFT = 3  # `map` was stopped before the end
INTERRUPTED = 130  # by Ctrl-C, before there was anything to drain
BROKEN_PIPE = 141  # as a shell sees a tool that SIGPIPE has ended

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # not generic before click 8.5


class Command(click.Command):
    """A command whose help ends with the variables of its options: beside each of them they would drown it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name each variable with its option."""
        named = [
            (param.envvar, max(param.opts, key=len))
            for param in self.params
            if isinstance(param, click.Option) and isinstance(param.envvar, str)
        ]
        if named:
            with formatter.section("Environment (an option wins over its variable)"):
                formatter.write_dl(named, col_max=48)


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that may also come from the environment, under its long name and the prefix. The option wins."""
    long = next(name for name in names if name.startswith("--"))
    variable = PREFIX + long.strip("-").replace("-", "_").upper()
    settings = {"envvar": variable, "show_default": True, **settings}
    return click.option(*names, **settings)


class UsageFault(click.ClickException):
    """What was asked for cannot be done: told in one line, exit code 2."""

    exit_code = USAGE


class Whole(ParamType):
    """A whole number; click's own says its bounds as a formula, in every line of the help."""

    name = "integer"

    def __init__(self, least: int, most: int = 10_000_000) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """*value* as an int within the bounds."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is no whole number", param, ctx)
        if not self.least <= number <= self.most:
            self.fail(f"{value!r} is not from {self.least:,} to {self.most:,}", param, ctx)
        return number


class Seconds(ParamType):
    """Seconds as a finite number; "none" where there may be no limit."""

    name = "seconds"

    def __init__(self, *, is_above: bool = False, may_be_none: bool = False) -> None:
        self.is_above, self.may_be_none = is_above, may_be_none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """*value* as seconds."""
        if self.may_be_none and isinstance(value, str) and value.strip().lower() == "none":
            return None
        return number_of(self, value, self.is_above, param, ctx)


class Rate(ParamType):
    """A finite number above 0."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """*value* as a number."""
        return number_of(self, value, True, param, ctx)


def number_of(
    kind: ParamType, value: Any, is_above: bool, param: click.Parameter | None, ctx: click.Context | None
) -> float:
    """*value* as a finite number, 0 or more, or above 0; else *kind* fails."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= LARGEST or (is_above and not number):
        kind.fail(f"{value!r} is no number {'above 0' if is_above else 'from 0 on'}", param, ctx)
    return number


class HostPort(ParamType):
    """HOST:PORT, or PORT alone for the loopback address; an IPv6 host stands in brackets."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """*value* as a host and a port."""
        if isinstance(value, tuple):
            return value
        match = HOST_PORT.fullmatch(value)
        if match is None or int(match["port"]) > 65535:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        return (match["host"] or LOOPBACK).strip("[]"), int(match["port"])


def with_value(arguments: list[str], name: str, value: str) -> list[str]:
    """*arguments*, in which the option *name* stands for `name=value` when no HOST:PORT follows it.

    click has optional values, but they would swallow the argument that follows, and they were broken in 8.3.
    """
    found: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*found, argument, *rest]
        if argument == name:
            argument = f"{name}={rest.pop(0) if rest and HOST_PORT.fullmatch(rest[0]) else value}"
        found.append(argument)
    return found
