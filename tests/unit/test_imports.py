"""Who may import whom, and how large things may be: read off the syntax trees of the package.

The floors, the lowest first: text, durations, errors; the nouns; core; the drivers; what is built upon them; the
package itself; the extras outside. A module imports from its own floor or from a lower one. Imports inside `if
TYPE_CHECKING:` count neither for direction nor for cycles: they are never carried out. Imports inside functions count
for direction, since they are dependencies all the same, but not for cycles, which they cannot make.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "rate_envelope_queue"
SOURCE = ROOT / "src" / PACKAGE

GROUND = ["text", "durations", "errors"]  # each may import those before it
NOUNS = ["envelope", "policy", "decision", "context", "schedules", "limiters", "stamps", "events", "results"]
BUILT_ON_DRIVERS = ["workqueue", "executor", "testing", "pytest_plugin"]
FLOORS = ["ground", "nouns", "core", "drivers", "built on drivers", "package", "outside"]
OUTSIDE = ["cli", "dashboard", "prometheus"]  # extras; they know one another by the names that users know
PUBLIC = {"", "events", "schedules", "testing", "workqueue", "text"}  # `text` is not, but escaping has one home

NOT_IN_CORE = {"threading", "_thread", "asyncio", "time", "random", "logging", "os", "socket"}
STRANGERS = {("drivers.threads", "drivers.aio"), ("drivers.aio", "drivers.threads")}  # and all that is inside them
DEPENDENCIES = {  # what is neither ours nor the standard library's, and who may import it, inside a function or not
    "schedules": {"cronsim"},
    "pytest_plugin": {"pytest"},
    "cli": {"click", "rich"},  # and all that is inside it
    "dashboard": {"starlette", "uvicorn"},  # and all that is inside it
    "prometheus": {"prometheus_client"},
}
UPWARD = {  # the exceptions, each inside a function, with the reason
    ("drivers.threads.queue", "executor"): "as_executor() makes one when it is asked for",
}

MODULE_LINES = 450
FUNCTION_LINES = 40
LONG_FUNCTIONS = {  # the exceptions, with the reason
    "drivers.aio.workers.work": "the same loop, on an event loop",
    "drivers.threads.workers.work": "the hot path: a part of it made a function is a call more for every envelope",
}


class Edge(NamedTuple):
    """One import: who, whom (without the package's name when it is ours), where, and when it is carried out."""

    importer: str
    imported: str
    line: int
    is_ours: bool
    when: str  # "import", "call" (inside a function) or "typing" (never)


def name_of(path: Path) -> str:
    """`core.machine` for core/machine.py, `core` for its __init__.py, "" for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
PACKAGES = {name for name, path in PATHS.items() if path.name == "__init__.py"}
SOURCES = {name: path.read_text(encoding="utf-8") for name, path in PATHS.items()}
NAMED = [pytest.param(name, id=name or PACKAGE) for name in PATHS]


def imports(name: str, source: str) -> Iterator[Edge]:
    """All that module *name* imports."""

    def visit(node: ast.AST, when: str) -> Iterator[Edge]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.body:
                yield from visit(statement, "typing")
            for statement in node.orelse:
                yield from visit(statement, when)
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from edges_of(name, node, when)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and when == "import":
            when = "call"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, when)

    yield from visit(ast.parse(source), "import")


def edges_of(name: str, node: ast.Import | ast.ImportFrom, when: str) -> Iterator[Edge]:
    """The edges of one import statement. `from . import x` is an import of the module x where there is one."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            is_ours = alias.name.split(".")[0] == PACKAGE
            imported = alias.name.partition(".")[2] if is_ours else alias.name
            yield Edge(name, imported, node.lineno, is_ours, when)
        return
    module = node.module or ""
    is_ours = node.level > 0 or module.split(".")[0] == PACKAGE
    if not is_ours:
        yield Edge(name, module, node.lineno, False, when)
        return
    if node.level:
        base = name.split(".") if name else []
        up = node.level - (name in PACKAGES)
        parents = base[: len(base) - up] if up else base
        module = ".".join([*parents, module] if module else parents)
    else:
        module = module.partition(".")[2]
    for alias in node.names:
        inner = f"{module}.{alias.name}" if module else alias.name
        yield Edge(name, inner if inner in PATHS else module, node.lineno, True, when)


def floor(name: str) -> int:
    """On which floor module *name* stands; KeyError for one that has no place yet."""
    top = name.partition(".")[0]
    where = {"": "package", "core": "core", "drivers": "drivers"}
    where |= dict.fromkeys(GROUND, "ground") | dict.fromkeys(NOUNS, "nouns")
    where |= dict.fromkeys(BUILT_ON_DRIVERS, "built on drivers") | dict.fromkeys(OUTSIDE, "outside")
    return FLOORS.index(where[top])


def fault_of(edge: Edge) -> str | None:
    """What is wrong with one import, if anything."""
    importer, imported = edge.importer, edge.imported
    if edge.when == "typing":
        return None
    if not edge.is_ours:
        top = imported.partition(".")[0]
        if importer.partition(".")[0] == "core" and top in NOT_IN_CORE:
            return f"core has no {top}"
        allowed = DEPENDENCIES.get(importer.partition(".")[0], ())
        if top not in sys.stdlib_module_names and top not in allowed:
            return f"{top} is not in the standard library"
        return None
    house = importer.partition(".")[0]
    if house in OUTSIDE and imported.partition(".")[0] != house and imported not in PUBLIC:
        return "what is outside uses what is public"
    if tuple(".".join(name.split(".")[:2]) for name in (importer, imported)) in STRANGERS:
        return "threads and asyncio do not know each other"
    if floor(importer) < floor(imported) and not (edge.when == "call" and (importer, imported) in UPWARD):
        return f"upward, from {FLOORS[floor(importer)]} to {FLOORS[floor(imported)]}"
    if importer in GROUND and GROUND.index(importer) <= GROUND.index(imported):
        return f"the ground floor is built in the order {', '.join(GROUND)}"
    return None


def faults(sources: Mapping[str, str]) -> list[str]:
    """All imports of *sources* that are not allowed, each with its place and reason."""
    edges = [edge for name, source in sources.items() for edge in imports(name, source)]
    return [f"{e.importer}:{e.line} imports {e.imported}: {fault}" for e in edges if (fault := fault_of(e))]


def order(sources: Mapping[str, str], *, inside: str = "") -> list[str]:
    """The modules whose names begin with *inside*, each after those it imports when it is imported; else CycleError."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    for name, source in sources.items():
        if name.startswith(inside):
            needs = (edge.imported for edge in imports(name, source) if edge.is_ours and edge.when == "import")
            graph.add(name, *(need for need in needs if need.startswith(inside)))
    return list(graph.static_order())


# The package


def test_directions() -> None:
    """No module imports upward, what is not its own floor's to import, or what is not in the standard library."""
    assert faults(SOURCES) == []


@pytest.mark.parametrize("name", NAMED)
def test_every_module_has_a_place(name: str) -> None:
    """A new module is put on a floor, here and in the documentation, before it is imported."""
    assert FLOORS[floor(name)]


def test_no_cycle() -> None:
    """The modules can be put in an order in which each imports only those before it."""
    position = {name: at for at, name in enumerate(order(SOURCES))}
    assert position["text"] < position["durations"] < position["errors"] < position["core.machine"]
    assert position["core.machine"] < position["drivers.threads.queue"] < position[""]


def test_core_is_built_downward() -> None:
    """The core alone has such an order, with the plain records at its foot and the machine at its top."""
    built = order(SOURCES, inside="core.")
    assert set(built) == {name for name in PATHS if name.startswith("core.")}
    assert built[-1] == "core.machine"
    for low, high in [("entries", "delays"), ("delays", "book"), ("lifecycle", "book"), ("book", "admission")]:
        assert built.index(f"core.{low}") < built.index(f"core.{high}")


def test_the_exceptions_are_needed() -> None:
    """An exception that nobody needs any more is taken off its list."""
    calls = {(e.importer, e.imported) for name in SOURCES for e in imports(name, SOURCES[name]) if e.when == "call"}
    assert set(UPWARD) <= calls
    assert set(LONG_FUNCTIONS) == set(LONG_FUNCTIONS) & set(long_functions(SOURCES))


def test_the_time_is_read_in_one_place() -> None:
    """Only drivers/clock.py imports `time`, so that nothing else can call it; and nobody asks datetime for now."""
    importers = {name for name in SOURCES for edge in imports(name, SOURCES[name]) if edge.imported == "time"}
    assert importers == {"drivers.clock"}
    assert clock_readers(SOURCES) == ["drivers.clock"]


def clock_readers(sources: Mapping[str, str]) -> list[str]:
    """The modules in which `.now()`, `.utcnow()` or `.today()` of datetime or date is used."""
    return [
        name
        for name, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in ("now", "utcnow", "today")
        and ast.unparse(node.value) in ("datetime", "date", "datetime.datetime", "datetime.date")
    ]


def private_names(source: str) -> list[str]:
    """What begins with an underscore and belongs to another object than `self` or `os`; and such imports."""
    tree = ast.parse(source)
    found = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os"))
    ]
    found += [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    return [name for name in found if name.startswith("_") and not name.startswith("__")]


@pytest.mark.parametrize("name", [name for name in PATHS if name.partition(".")[0] in OUTSIDE])
def test_the_extras_use_no_private_name(name: str) -> None:
    """If an extra needs a name with an underscore, the public surface has a hole."""
    assert private_names(SOURCES[name]) == []


def test_a_private_name_is_found() -> None:
    """As an attribute and as an import; its own are its own."""
    source = "from . import _it\nclass A:\n    def f(self, queue):\n        return self._a + queue._machine"
    assert private_names(source) == ["_machine", "_it"]


# What is wrong is found


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("text", "from .durations import seconds", "the ground floor"),
        ("durations", "from . import errors", "the ground floor"),
        ("errors", "from .decision import drop", "upward"),
        ("envelope", "from .core.entries import Entry", "upward"),
        ("core.settle", "from ..drivers import rules", "upward"),
        ("core.settle", "def f():\n    from ..drivers.plan import Plan", "upward"),
        ("core.settle", "import rate_envelope_queue.workqueue", "upward"),
        ("core.settle", "from rate_envelope_queue import Envelope", "upward"),
        ("core.book", "import os.path", "core has no os"),
        ("core.book", "from time import monotonic", "core has no time"),
        ("core.book", "def f():\n    import asyncio", "core has no asyncio"),
        ("core.book", "from _thread import allocate_lock", "core has no _thread"),
        ("drivers.threads.queue", "from ...executor import QueueExecutor", "upward"),
        ("drivers.threads.queue", "from ..aio.queue import AsyncEnvelopeQueue", "do not know each other"),
        ("drivers.plan", "def f():\n    from .. import testing", "upward"),
        ("events", "import cronsim", "not in the standard library"),
        ("workqueue", "import attrs", "not in the standard library"),
        ("workqueue", "import click", "not in the standard library"),
        ("cli.top", "import cronsim", "not in the standard library"),
        ("cli.top", "from ..drivers.clock import real_now", "uses what is public"),
        ("cli.top", "from .. import durations", "uses what is public"),
        ("", "def f():\n    from .cli import main", "upward"),
        ("dashboard.board", "from ..core.book import Book", "uses what is public"),
        ("dashboard.board", "from ..drivers.front import QueueFront", "uses what is public"),
        ("dashboard.board", "import attrs", "not in the standard library"),
        ("testing", "from .dashboard import serve", "upward"),
    ],
)
def test_a_wrong_import_is_found(monkeypatch: pytest.MonkeyPatch, name: str, source: str, reason: str) -> None:
    """Each kind of forbidden import, in each of its spellings, is reported with its line and reason."""
    monkeypatch.setitem(PATHS, "drivers.aio.queue", SOURCE / "drivers" / "aio" / "queue.py")
    (found,) = faults({name: source})
    assert found.startswith(f"{name}:{source.count(chr(10)) + 1} imports ")
    assert reason in found


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("errors", "from .durations import seconds\nfrom .text import escaped"),
        ("envelope", "import threading\nfrom .schedules import every"),
        ("core.settle", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..drivers.plan import Plan"),
        ("core.settle", "from . import effects\nfrom ..decision import Decision"),
        ("drivers.threads.queue", "def f():\n    from ...executor import QueueExecutor"),
        ("schedules", "def f():\n    from cronsim import CronSim"),
        ("dashboard.board", "from .. import Envelope\nfrom ..text import escaped\nfrom .views import Run"),
        ("dashboard.app", "import starlette.routing"),
        ("", "from .workqueue import WorkQueue\nfrom . import events"),
        ("cli.top", "from .. import EnvelopeQueue, events\nfrom .options import OK\nfrom rich.live import Live"),
    ],
)
def test_a_right_import_is_not(name: str, source: str) -> None:
    """Downward, on the same floor, and for typing alone."""
    assert faults({name: source}) == []


def test_cycles_are_found() -> None:
    """Two modules that import each other; but not when one does it in a function or for typing."""
    one, back = "from .delays import Delays", "from .entries import Entry"
    with pytest.raises(CycleError):
        order({"core.entries": one, "core.delays": back})
    for harmless in (f"def f():\n    {back}", f"if TYPE_CHECKING:\n    {back}"):
        assert order({"core.entries": one, "core.delays": harmless}) == ["core.delays", "core.entries"]


# Sizes


def long_functions(sources: Mapping[str, str]) -> dict[str, int]:
    """The functions that are too long, and how many lines each has without its docstring and decorators."""
    found: dict[str, int] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                visit(child, name)
                continue
            inner = f"{name}.{child.name}"
            if not isinstance(child, ast.ClassDef) and length_of(child) > FUNCTION_LINES:
                found[inner] = length_of(child)
            visit(child, inner)

    for name, source in sources.items():
        visit(ast.parse(source), name)
    return found


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Its lines, from `def` to the end, without the docstring."""
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


@pytest.mark.parametrize("name", NAMED)
def test_the_size_of_a_module(name: str) -> None:
    """No module is over 450 lines, and no function over 40 without its docstring."""
    assert SOURCES[name].count("\n") <= MODULE_LINES
    too_long = long_functions({name: SOURCES[name]})
    assert {function: lines for function, lines in too_long.items() if function not in LONG_FUNCTIONS} == {}


def test_a_long_function_is_found() -> None:
    """Counted from its `def`, methods and inner functions too; the docstring is not counted."""
    body = "\n".join(["        x = 1"] * 40)
    source = f'class C:\n    @property\n    def m(self):\n        """One.\n\n        Two.\n        """\n{body}\n'
    assert long_functions({"a": source}) == {"a.C.m": 41}
    assert long_functions({"a": source.replace("        x = 1\n", "", 1)}) == {}


@pytest.mark.parametrize("name", NAMED)
def test_a_module_says_what_it_is(name: str) -> None:
    """Every module has a docstring."""
    assert (ast.get_docstring(ast.parse(SOURCES[name])) or "").strip()


# What importing it costs


def test_no_runtime_dependency() -> None:
    """The package needs nothing but Python; what its extras need is an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == []
    assert any(need.startswith("cronsim") for need in project["optional-dependencies"]["cron"])
    assert {need.partition(">")[0] for need in project["optional-dependencies"]["cli"]} == {"click", "rich"}
    assert [need.partition(">")[0] for need in project["optional-dependencies"]["prometheus"]] == ["prometheus_client"]


def test_importing_it_is_cheap() -> None:
    """A plain import brings neither asyncio nor anything of the extras, of tests or of what is not the library's."""
    unwanted = [
        "asyncio",
        "click",
        "cronsim",
        "opentelemetry",
        "prometheus_client",
        "pytest",
        "rich",
        "zoneinfo",
        "socket",
        "typing_extensions",
        f"{PACKAGE}.testing",
    ]
    code = f"import sys; before = set(sys.modules); import {PACKAGE}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert f"{PACKAGE}.drivers.threads.queue" in done.stdout.split()
    assert [name for name in unwanted if name in done.stdout.split()] == []


@pytest.mark.parametrize("module", ["workqueue", "testing", "schedules", "limiters", "events", "executor"])
def test_a_module_can_be_imported_alone(module: str) -> None:
    """Whichever of ours comes first, the import succeeds, without asyncio, cronsim or pytest."""
    code = f"import sys, {PACKAGE}.{module}; print(*{{'asyncio', 'cronsim', 'pytest'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
