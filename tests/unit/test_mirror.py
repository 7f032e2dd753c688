"""The two flavours are one: the pipelines are the same lines, and the queues have the same methods."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from rate_envelope_queue import AsyncEnvelopeQueue, EnvelopeQueue
from rate_envelope_queue.workqueue import AsyncWorkQueue, WorkQueue

DRIVERS = Path(__file__).parents[2] / "src" / "rate_envelope_queue" / "drivers"
OWN = {  # what one flavour does with what was called, and the other does otherwise or need not do
    "threads": "if runner.value is not None:\n    refuse_coroutine(runner.value, envelope._policy)",
    "aio": "if runner.is_disturbed:\n    await runner.absorb()",
}
ONLY_THREADS = {"as_executor", "__enter__", "__exit__"}
ONLY_ASYNCIO = {"__aenter__", "__aexit__"}
AWAITED = {"start", "stop", "terminate", "send_wait", "join", "run"}


class Colourless(ast.NodeTransformer):
    """Drops what belongs to one colour: async and await, the look at a result, and the statement of `OWN`."""

    def __init__(self, flavour: str) -> None:
        self.own = ast.unparse(ast.parse(OWN[flavour]))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self.visit(ast.FunctionDef(**{field: getattr(node, field) for field in node._fields}))

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "finished":
            return self.visit(node.args[0])
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        return None if ast.unparse(node) == self.own else self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        return ast.Name("Runner", node.ctx) if node.id == "LoopRunner" else node


def functions(flavour: str) -> dict[str, str]:
    """The functions of a pipeline, without their colour."""
    tree = ast.parse((DRIVERS / flavour / "pipeline.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {node.name: ast.unparse(ast.fix_missing_locations(Colourless(flavour).visit(node))) for node in found}


def test_the_pipelines_are_mirrors() -> None:
    """The pipeline for asyncio is the one for threads, awaited."""
    assert set(functions("threads")) == {"run", "conclude"}
    assert functions("aio") == functions("threads")


def public(kind: type) -> dict[str, Any]:
    """The public methods and properties of a class, with those of its bases."""
    return {
        name: getattr(kind, name)
        for name in dir(kind)
        if not name.startswith("_") or name in ONLY_THREADS | ONLY_ASYNCIO | {"__init__", "__len__", "__bool__"}
    }


def test_the_queues_have_the_same_names() -> None:
    """What one queue has, the other has, but for what belongs to a colour."""
    assert set(public(EnvelopeQueue)) - ONLY_THREADS == set(public(AsyncEnvelopeQueue)) - ONLY_ASYNCIO


@pytest.mark.parametrize("name", sorted(set(public(EnvelopeQueue)) - ONLY_THREADS))
def test_the_queues_have_the_same_signatures(name: str) -> None:
    """The parameters are the same, names, kinds, defaults and annotations; what blocks in threads is awaited."""
    ours, theirs = public(EnvelopeQueue)[name], public(AsyncEnvelopeQueue)[name]
    if isinstance(ours, property):
        assert isinstance(theirs, property)
        return
    assert list(inspect.signature(ours).parameters.values()) == list(inspect.signature(theirs).parameters.values())
    assert inspect.iscoroutinefunction(theirs) == (name in AWAITED)


@pytest.mark.parametrize("name", ["add", "add_after", "add_rate_limited", "get", "done", "forget", "num_requeues",
                                  "shut_down", "shut_down_with_drain"])  # fmt: skip
def test_the_work_queues_have_the_same_signatures(name: str) -> None:
    """`AsyncWorkQueue` is `WorkQueue` with two methods awaited."""
    ours, theirs = getattr(WorkQueue, name), getattr(AsyncWorkQueue, name)
    assert list(inspect.signature(ours).parameters.values()) == list(inspect.signature(theirs).parameters.values())
    assert inspect.iscoroutinefunction(theirs) == (name in {"get", "shut_down_with_drain"})
