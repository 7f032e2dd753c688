"""The event loop of a virtual clock: its time is the clock's, and it goes round when the clock has it do so.

It is asyncio's own loop without a selector, so coroutines behave on it as on any other. What it cannot do is told:
real sockets, pipes and signals know nothing of virtual time.
"""

from __future__ import annotations

import asyncio
from asyncio import BaseEventLoop, Future
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from heapq import heappop
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import QueueStateError

if TYPE_CHECKING:
    from .world import VirtualClock


class NoSelector:
    """Nothing comes from outside."""

    def select(self, timeout: float | None) -> list[Any]:
        """No events."""
        return []


class SimulatedLoop(BaseEventLoop):
    """One for each clock; all its queues share it, as those of a service share theirs.

    Plain functions that asyncio would call in a thread are called by a carrier, so that they spend virtual time too.
    """

    _ready: deque[Any]
    _scheduled: list[Any]
    _timer_cancelled_count: int

    def __init__(self, world: VirtualClock) -> None:
        super().__init__()
        self._world = world
        self._selector = NoSelector()
        self._is_turning = False
        self._jobs: deque[Callable[[], object]] = deque()
        self.set_exception_handler(_tell)

    def time(self) -> float:
        """Virtual seconds."""
        return self._world.now()

    def complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What *coroutine* returns, for a caller elsewhere: virtual time goes on until it does.

        Raises QueueStateError when it never will.
        """
        task = self.create_task(coroutine)
        try:
            self._world.wait_until(task.done, None)
        except BaseException:
            task.cancel()
            raise
        return task.result()

    def spawn(self, job: Callable[[], object]) -> None:
        """Have a carrier call *job*, at this instant, beside the loop."""
        self._jobs.append(job)

    def run_in_executor(  # type: ignore[override]  # as precise as is of use here
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Future[Any]:
        """As every loop, but *func* is called by a carrier, and *executor* is left alone."""
        future: Future[Any] = self.create_future()
        context = copy_context()

        def job() -> None:
            try:
                self.call_soon_threadsafe(_settle, future, context.run(func, *args), None)
            except BaseException as error:
                self.call_soon_threadsafe(_settle, future, None, error)

        self.spawn(job)
        return future

    # What the world asks

    def _next_event(self) -> float | None:
        """The instant of the next thing that it would do; while it is held up, only jobs go on."""
        now = self._world.now()
        if self._jobs:
            return now
        if self._is_turning:
            return None
        if self._ready:
            return now
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:  # as the loop itself does
            self._timer_cancelled_count -= 1
            heappop(scheduled)._scheduled = False
        return max(now, scheduled[0].when()) if scheduled else None

    def _step(self) -> None:
        if self._jobs:
            self._jobs.popleft()()
            return
        self._is_turning = True
        try:
            self.stop()  # after this turn
            self.run_forever()
        except KeyboardInterrupt as error:
            self._world.interrupt(error)
        finally:
            self._is_turning = False

    # What asyncio's loop asks of its kind

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in it."""

    def __del__(self) -> None:
        """It holds nothing that must be closed."""


def _settle(future: Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, trouble: dict[str, Any]) -> None:
    """As every loop, but that a queue of a test was forgotten with its workers is no trouble."""
    if trouble.get("message") != "Task was destroyed but it is pending!":
        loop.default_exception_handler(trouble)


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Any, *args: Any, **options: Any) -> NoReturn:
        raise QueueStateError(
            f"loop.{name}() is not for a simulated queue, which knows nothing of the real world: give the handler a "
            "fake of what it talks to, and let it spend virtual time with ctx.wait(seconds)"
        )

    return refuse


for _name in (
    "add_reader", "add_signal_handler", "add_writer", "connect_accepted_socket", "connect_read_pipe",
    "connect_write_pipe", "create_connection", "create_datagram_endpoint", "create_server", "create_unix_connection",
    "create_unix_server", "getaddrinfo", "getnameinfo", "remove_reader", "remove_signal_handler", "remove_writer",
    "sendfile", "sock_accept", "sock_connect", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into",
    "sock_sendall", "sock_sendfile", "sock_sendto", "start_tls", "subprocess_exec", "subprocess_shell",
):  # fmt: skip
    setattr(SimulatedLoop, _name, _refusing(_name))
