"""The fixture `h`: every test of the suite that takes it runs on every driver, unless it is marked otherwise."""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Callable, Iterator

import pytest

from ..conftest import HAS_UVLOOP
from .aio_harness import AsyncioHarness, LoopHarness, RealAsyncioHarness, StubbornHarness, UvloopHarness
from .harness import Harness, SimulatedHarness, ThreadsHarness
from .twin import TwinHarness

KINDS = (
    SimulatedHarness,
    ThreadsHarness,
    AsyncioHarness,
    StubbornHarness,
    RealAsyncioHarness,
    UvloopHarness,
    TwinHarness,
)
HARNESSES: dict[str, type[Harness]] = {harness.kind: harness for harness in KINDS}
USUAL = ["simulated", "twin", "threads", "asyncio", "uvloop"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on every kind, unless a mark names those that it is for."""
    marked = {mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")}
    if "h" in metafunc.fixturenames and "h" not in marked:
        metafunc.parametrize("h", USUAL, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test itself on the loop, where its harness has one."""
    harness = pyfuncitem.funcargs.get("h")
    if not isinstance(harness, LoopHarness):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    harness.run_test(pyfuncitem.obj, {name: pyfuncitem.funcargs[name] for name in names})
    return True


@pytest.fixture
def h(request: pytest.FixtureRequest, uvloop_is_warm: None) -> Iterator[Harness]:
    if request.param == "uvloop" and not HAS_UVLOOP:
        pytest.skip("uvloop is not installed")
    harness = HARNESSES[request.param]()
    yield harness
    harness.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest, uvloop_is_warm: None) -> Iterator[Callable[[], asyncio.AbstractEventLoop]]:
    """Makes loops of one kind, which are closed when the test is over."""
    if request.param == "uvloop" and not HAS_UVLOOP:
        pytest.skip("uvloop is not installed")
    loops = []

    def make() -> asyncio.AbstractEventLoop:
        loops.append(importlib.import_module(request.param).new_event_loop())
        return loops[-1]

    yield make
    for loop in loops:
        if not loop.is_closed():
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=1) if left else asyncio.sleep(0))
            loop.close()
            assert not left
    gc.collect()  # what a closed loop left behind ends here, and not in another test
