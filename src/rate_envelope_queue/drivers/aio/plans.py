"""How a loop calls what the user gave: coroutine functions are awaited, plain handlers run in a thread, and plain
hooks and stamps are called on the loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import Any

from ...context import Context, RunContext
from ...envelope import Envelope, Invoker, Policy, is_coroutine
from ..plan import PlanBook, fold


class LoopPlanBook(PlanBook):
    """Plans whose every callable gives a coroutine."""

    def __init__(self, *args: Any, offload: Callable[..., Awaitable[Any]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._offload = offload

    def hook(self, hook: Any) -> Any:
        """*hook* as the pipeline awaits it."""
        if hook is None or is_coroutine(hook):
            return hook

        async def call(ctx: RunContext, *arguments: Any) -> Any:
            result = hook(plain(ctx), *arguments)
            return await result if result is not None and isawaitable(result) else result

        return call

    def invoker(self, invoke: Invoker) -> Invoker:
        """*invoke* as stamps call it: it gives a coroutine."""
        if is_coroutine(invoke):
            return invoke
        offload = self._offload

        async def call(ctx: RunContext, envelope: Envelope) -> Any:
            result = await offload(invoke, plain(ctx), envelope)
            return await result if isinstance(result, Coroutine) else result  # other awaitables may be its result

        return call

    def fold(self, policy: Policy) -> Invoker:
        """The handler of *policy* inside its stamps, as the pipeline awaits it."""
        inner = self.invoker(policy.invoke)
        outer = fold(inner, policy.stamps, self.stamps)
        if outer is inner or is_coroutine(outer):
            return outer

        async def call(ctx: RunContext, envelope: Envelope) -> Any:
            result = outer(ctx, envelope)  # type: ignore[arg-type]  # stamps hand the context on as it is
            return await result if isawaitable(result) else result

        return call


def plain(ctx: RunContext) -> Context:
    """The same context for a plain function, whose waits block its thread."""
    return Context(ctx._scope, ctx._attempt, ctx._deadline)
