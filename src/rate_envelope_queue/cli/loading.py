"""Find what `module:name` means: imported with the current directory first, as a service is started."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType, TracebackType
from typing import Any

from ..text import bounded_repr, error_text, escaped
from .options import UsageFault


def load(target: str, what: str) -> Any:
    """The object that *target* names, as `module:name`, `module:name.attribute`, or `module:function()`.

    Raises `UsageFault` with what is wrong; an error inside the module is shown with its traceback first.
    """
    module_name, colon, path = target.partition(":")
    is_called = path.endswith("()")
    names = path.removesuffix("()").split(".")
    shown = escaped(target, 200)
    if not colon or not module_name or not all(name.isidentifier() for name in names):
        raise UsageFault(f"{what} is named as module:name or module:function(), not {shown!r}")
    found = _import(module_name)
    for name in names:
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageFault(f"{shown}: there is no {escaped(name, 100)!r}{_offered(found)}") from None
    if is_called:
        found = _call(found, shown)
    return found


def _import(name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = (isinstance(error, ModuleNotFoundError) and error.name) or ""
        if missing and (name == missing or name.startswith(f"{missing}.")):
            raise UsageFault(
                f"there is no module {escaped(name, 100)!r} in {escaped(here, 200)}, nor installed"
            ) from None
        _show(error)
        raise UsageFault(f"{escaped(name, 100)} cannot be imported: {error_text(error, 500)}") from None


def _call(function: Any, shown: str) -> Any:
    if not callable(function):
        raise UsageFault(f"{shown} cannot be called: it is {bounded_repr(function)}")
    try:
        return function()
    except (Exception, SystemExit) as error:
        _show(error)
        raise UsageFault(f"{shown} failed: {error_text(error, 500)}") from None


def _show(error: BaseException) -> None:
    """The traceback, without the frames of this file and of the import machinery."""
    own = (__file__, importlib.__file__)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in own and not file.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    traceback.print_exception(error.with_traceback(trace))


def _offered(owner: object) -> str:
    """A hint at what there is."""
    given = vars(owner) if hasattr(owner, "__dict__") else {}
    names = [name for name, value in given.items() if name[0] != "_" and not isinstance(value, (type, ModuleType))]
    return f" in it; there are {escaped(', '.join(names), 300)}" if names else " in it"
