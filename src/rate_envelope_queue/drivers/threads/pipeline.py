"""The pipeline of one run, for threads. It holds no rule: those are in rules.py and core/settle.py."""

from __future__ import annotations

from ...core.settle import Verdict
from ...envelope import Envelope
from ..plan import Plan, finished, refuse_coroutine
from ..rules import Runner


def run(runner: Runner, plan: Plan, envelope: Envelope) -> Verdict:
    """Run *envelope* once, hooks and all; never raises. What invoke returned is left in `runner.value`."""
    error: BaseException | None = None
    try:
        if plan.before is not None:
            finished(plan.before(runner.before_context(), envelope), "before hook")
            runner.check_before()
        runner.value = plan.invoke(runner.context, envelope)
        if runner.value is not None:
            refuse_coroutine(runner.value, envelope._policy)
    except BaseException as raised:
        error = raised
    try:
        return conclude(runner, plan, envelope, error)
    finally:
        error = None  # its traceback holds this frame: without this, a cycle


def conclude(runner: Runner, plan: Plan, envelope: Envelope, error: BaseException | None) -> Verdict:
    """The hooks after invoke, and the verdict."""
    decision: object = None
    error = runner.invoked(error)
    if plan.after is not None and (error is None or runner.is_stopped):
        try:
            finished(plan.after(runner.hook_context(), envelope), "after hook")
        except BaseException as raised:
            error = runner.after_raised(error, raised)
    if plan.success is not None and error is None:
        try:
            finished(plan.success(runner.hook_context(), envelope), "success hook")
        except BaseException as raised:
            runner.hook_raised("success_hook", raised)
    if plan.failure is not None and error is not None and runner.asks_failure(error):
        try:
            decision = finished(plan.failure(runner.failure_context(), envelope, error), "failure hook")
        except BaseException as raised:
            runner.hook_raised("failure_hook", raised)
    try:
        return runner.verdict(error, decision)
    finally:
        error = decision = None
