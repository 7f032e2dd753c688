"""The pipeline of one run, on a loop. It holds no rule: those are in rules.py, cancels.py and core/settle.py.

The same lines as in `threads.pipeline`, awaited, but for one: a task that was cancelled in a phase absorbs that at its
end, before anything else is awaited.
"""

from __future__ import annotations

from ...core.settle import Verdict
from ...envelope import Envelope
from ..plan import Plan
from .cancels import LoopRunner


async def run(runner: LoopRunner, plan: Plan, envelope: Envelope) -> Verdict:
    """Run *envelope* once, hooks and all; never raises. What invoke returned is left in `runner.value`."""
    error: BaseException | None = None
    try:
        if plan.before is not None:
            await plan.before(runner.before_context(), envelope)
            if runner.is_disturbed:
                await runner.absorb()
            runner.check_before()
        runner.value = await plan.invoke(runner.context, envelope)
    except BaseException as raised:
        error = raised
    try:
        return await conclude(runner, plan, envelope, error)
    finally:
        error = None  # its traceback holds this frame: without this, a cycle


async def conclude(runner: LoopRunner, plan: Plan, envelope: Envelope, error: BaseException | None) -> Verdict:
    """The hooks after invoke, and the verdict."""
    decision: object = None
    error = runner.invoked(error)
    if runner.is_disturbed:
        await runner.absorb()
    if plan.after is not None and (error is None or runner.is_stopped):
        try:
            await plan.after(runner.hook_context(), envelope)
        except BaseException as raised:
            error = runner.after_raised(error, raised)
        if runner.is_disturbed:
            await runner.absorb()
    if plan.success is not None and error is None:
        try:
            await plan.success(runner.hook_context(), envelope)
        except BaseException as raised:
            runner.hook_raised("success_hook", raised)
        if runner.is_disturbed:
            await runner.absorb()
    if plan.failure is not None and error is not None and runner.asks_failure(error):
        try:
            decision = await plan.failure(runner.failure_context(), envelope, error)
        except BaseException as raised:
            runner.hook_raised("failure_hook", raised)
        if runner.is_disturbed:
            await runner.absorb()
    try:
        return runner.verdict(error, decision)
    finally:
        error = decision = None
