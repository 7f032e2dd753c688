"""What holds after every step, one function for each guarantee; docs/guarantees.md numbers them.

Each asks the machine and the model, or the machine alone. Those that ask it alone would hold without the model.
"""

from __future__ import annotations

from collections import Counter, deque
from gc import get_referents
from math import inf
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from rate_envelope_queue.core import effects, reading
from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.results import Outcome, QueueState
from tests.unit.machine_world import check

from .naive import INIT, RUNNING, STOPPED, STOPPING, TERMINATED, key_of
from .twins import Future, Twins

LEGAL = {
    (INIT, RUNNING), (INIT, STOPPING), (RUNNING, STOPPING), (STOPPED, RUNNING), (STOPPED, STOPPING),
    (STOPPING, STOPPED), (STOPPING, TERMINATED),
}  # fmt: skip
LEAVES = (type, FunctionType, BuiltinFunctionType, MethodType, ModuleType, str, int, float, bool, type(None))
COUNTED = {  # of the effects, and what the model counts
    effects.DEAD: "dead", effects.FORGET: "forgotten", effects.LOST: "lost",
    effects.CANCEL: "cancels", effects.ABANDONED: "runs_abandoned", effects.STOPPED: "stops",
}  # fmt: skip


RUN_ENDS = ("succeeded", "failed", "cancelled", "stopped")


def same(found: Any, expected: Any) -> None:
    assert found == expected, f"the machine says {found}, the model {expected}"


def conservation(twins: Twins) -> None:
    """I-1: what was accepted has ended or is there; what has begun to run has ended or runs."""
    model, stats = twins.model, twins.machine.stats()
    assert stats.accepted == twins.admitted
    assert stats.accepted == sum(getattr(stats, outcome.value) for outcome in Outcome) + stats.occupancy
    same({outcome: getattr(stats, outcome.value) for outcome in Outcome}, {o: model.counts[o] for o in Outcome})
    for name in ("runs_succeeded", "runs_failed", "runs_cancelled", "runs_stopped", "runs_abandoned"):
        assert getattr(stats, name) == model.counts[name], name
    for name in ("coalesced", "refused", "late", "abandoned_ended", "retried"):
        assert getattr(stats, name) == model.counts[name], name
    check(twins.machine)


def one_outcome(twins: Twins) -> None:
    """I-2: whoever waits for an outcome is told once, and the same as the model says."""
    answered = [(future, effect[2]) for effect in twins.world.found(effects.ENDED) for future in effect[1]]
    assert len(answered) == len(dict(answered)), "a future is resolved twice"
    same(dict(answered), twins.model.resolved)


def uniqueness(twins: Twins) -> None:
    """I-3: one entry for a key, in one phase, which every index agrees with."""
    reading.check(twins.machine)
    due = {key: at for at, _, key in twins.model.delayed}
    views = twins.machine.snapshot(100)
    found = [(view.key, view.envelope, view.phase, view.due_in) for view in views]
    same(found, [
        (key, row.envelope, row.phase, due[key] - twins.model.now if key in due else None)
        for key, row in twins.model.book.items()
    ])  # fmt: skip


def capacity(twins: Twins) -> None:
    """I-4: never more entries than there is room for, and who waits for room waits only while there is none."""
    model, stats = twins.model, twins.machine.stats()
    waits = sum(row.phase in ("ready", "blocked") for row in model.book.values())
    assert stats.occupancy == len(twins.machine.entries) == len(model.book) <= model.capacity
    assert (stats.buffered, stats.ready) == ((waits, 0) if model.state is INIT else (0, waits))
    assert (stats.delayed, stats.running) == (len(model.delayed), len(model.active()))
    for seat, place in twins.seats:
        assert seat.is_done == all(place is not other for other in model.seats)
    assert not model.seats or not model.fits(model.seats[0])


def no_overlap(twins: Twins) -> None:
    """I-5: no key runs twice at once, abandoned runs included; no more run than workers, but for a resize."""
    running = [key for _, key in twins.handles]
    assert len(running) == len(set(running)) == len(twins.model.active()) + len(twins.model.ghosts)
    assert set(twins.machine.ghosts) == twins.model.ghosts.keys()
    assert twins.machine.stats().workers == twins.model.limit


def no_lost_wake_up(twins: Twins) -> None:
    """I-6: what may run now can be seen by a free worker, and what is due later is known to one that sleeps."""
    model, machine = twins.model, twins.machine
    is_takable = model.may_run() and bool(model.ready)
    same(machine.reserved, model.reserved if model.reserved >= 0 else None)
    times = [due for due, _, _ in model.delayed if model.state is RUNNING and not model.is_paused]
    if model.reserved >= 0 and is_takable and len(model.active()) < model.limit:
        times.append(model.reserved)
    expected, found = min(times, default=None), machine.next_at()
    if machine.stale or machine.skip:  # debris may wake somebody for nothing
        assert machine.takable or not is_takable
        assert expected is None or (found is not None and found <= expected)
    else:
        assert bool(machine.takable) == is_takable
        assert found == expected
    stop = model.stopping
    times = [stop.abandon_at if stop.has_cancelled else stop.cancel_at]
    over = model.state is not STOPPING or stop.gave_up or times == [inf]
    assert machine.stop_at() == (None if over else times[0])


def order(twins: Twins) -> None:
    """I-7: what waits would run in the model's order: priority, then who came first."""
    same([key_of(envelope) for envelope in twins.world.ready()], [key for _, key in twins.model.ready])


def not_early(twins: Twins) -> None:
    """I-8: what is delayed does not run: its due time was not there when it was looked at."""
    running = {key for _, key in twins.handles}
    assert not any(key in running and key not in twins.model.ghosts for _, _, key in twins.model.delayed)


def legal_transitions(twins: Twins) -> None:
    """I-9: only the steps that are allowed, each told once; what has stopped runs nothing, and says so truly."""
    state = QueueState.INIT
    for _, old, new in twins.world.found(effects.STATE):
        assert old is state
        assert (old, new) in LEGAL
        state = new
    assert state is twins.machine.state is twins.model.state
    if state in (STOPPED, TERMINATED):
        report = twins.world.report()
        same({name: getattr(report, name) for name in twins.model.report}, twins.model.report)
        assert report is twins.machine.last_report
        assert twins.machine.stats().running == 0


def attempts(twins: Twins) -> None:
    """I-15: attempts as the model counts them; never more than allowed, unless one with fewer replaced another."""
    for view in twins.machine.snapshot(100):
        envelope, row = view.envelope, twins.model.book[view.key]
        same((view.key, view.attempt), (view.key, row.attempt))
        assert envelope.is_periodic or twins.model.replaces or view.attempt <= (envelope.max_attempts or inf)


def nothing_retained(twins: Twins) -> None:
    """I-16: from the machine no envelope can be reached but those in it, or in a report; no error, no old future."""
    model = twins.model
    rows = [*model.book.values(), *model.ghosts.values()]
    held = {envelope for row in rows for envelope in (row.envelope, row.following)}
    held.update(envelope for batch in model.seats for envelope in batch)
    held.update(model.stopping.abandoned)
    for name in ("kept", "returned", "abandoned"):
        held.update(model.report.get(name, ()))
    found = reachable(twins.machine)
    kept = {one for one in found if isinstance(one, Envelope)} - held - set(twins.machine.skip)
    assert not kept, f"kept after its end: {kept}"
    assert not [one for one in found if isinstance(one, BaseException)]
    assert not model.resolved.keys() & {one for one in found if isinstance(one, Future)}


def observed(twins: Twins) -> None:
    """I-19: each thing that happened is told, once; who joined is answered when it is true, and not before."""
    events_are_the_ledger(twins)
    told = {name: len(twins.world.found(name)) for name in COUNTED}
    same(told, {name: twins.model.counts[counted] for name, counted in COUNTED.items()})
    for waiter in twins.waiters:
        expected = twins.model.answers.get(waiter)
        same((waiter.is_done, waiter.error is None), (expected is not None, expected is not False))
    for ticket, waiter in twins.callers:
        assert (waiter.is_done, waiter.answer) == (ticket.report is not None, ticket.report)
    if twins.callers and twins.model.state is not STOPPING:
        assert twins.callers[-1][1].is_done


def events_are_the_ledger(twins: Twins) -> None:
    """As many events as the ledger counts, of those that somebody listens to, and none of others."""
    stats = twins.machine.stats()
    told = Counter(effect[1] for effect in twins.world.found(effects.TOLD))
    ended = Counter(effect[3] for effect in twins.world.found(effects.TOLD) if effect[1] == "ended")
    if twins.watch == "observer":
        of_runs = {name: getattr(stats, f"runs_{name}") for name in ("started", *RUN_ENDS)}
        of_entries = {name: getattr(stats, name) for name in ("accepted", "coalesced", "refused", "late", "retried")}
        same(told, Counter({**of_runs, **of_entries, "ended": ended.total()}))
        same(ended, Counter({outcome: getattr(stats, outcome.value) for outcome in Outcome}))
    else:
        same(told, Counter({"retried": stats.retried} if twins.watch == "observer of retries" else {}))


def measured(twins: Twins) -> None:
    """I-19: what is measured is what went by, for each wait and each run, in the machine's units and client-go's."""
    model, found = twins.model, twins.machine.measured()
    if twins.watch in ("nobody", "observer of retries"):
        assert found is None
        return
    assert found is not None
    for name, values in (("waited", model.waits), ("latency", model.latencies), ("ran", model.ran)):
        histogram = getattr(found, name)
        same((name, histogram.count, histogram.total), (name, len(values), sum(values)))
    rows = model.book.values()
    due = sum(at <= model.now for at, _, _ in model.delayed)
    same((found.adds, found.depth), (model.counts["adds"], sum(row.is_added for row in rows) + due))
    running = [model.now - row.began_at for row in rows if row.phase == "running"]
    same((found.unfinished, found.longest), (sum(running), max(running, default=0.0)))


def reachable(machine: Any) -> set[Any]:
    """Envelopes, errors and futures that *machine* refers to, through whatever."""
    pending = deque(get_referents(machine))
    seen: set[int] = set()
    found: set[Any] = set()
    while pending:
        one = pending.popleft()
        if isinstance(one, (Envelope, BaseException, Future)):
            found.add(one)
        elif id(one) not in seen and not isinstance(one, LEAVES):
            seen.add(id(one))
            pending.extend(get_referents(one))
    return found


GUARANTEES = {
    "I-1": conservation, "I-2": one_outcome, "I-3": uniqueness, "I-4": capacity, "I-5": no_overlap,
    "I-6": no_lost_wake_up, "I-7": order, "I-8": not_early, "I-9": legal_transitions, "I-15": attempts,
    "I-16": nothing_retained, "I-19": observed,
    "I-19, times": measured,
}  # fmt: skip


def hold(twins: Twins) -> None:
    """Every guarantee, or an AssertionError that names the one."""
    for name, guarantee in GUARANTEES.items():
        try:
            guarantee(twins)
        except Exception as error:
            raise AssertionError(f"{name}: {guarantee.__doc__}\n{error}") from error


def hold_at_the_end(twins: Twins) -> None:
    """The queue is terminated and every run ends: then every entry has ended, with one outcome."""
    while twins.model.undelivered:
        twins.deliver()
    twins.stop(twins.model.stopping.mode, None, 0.0, is_ending=True)
    while twins.handles:
        twins.finish(0, "success", 0.0, takes=False)
    hold(twins)
    stats = twins.machine.stats()
    assert (stats.state, stats.occupancy, stats.running, twins.machine.ghosts) == (TERMINATED, 0, 0, {})
    assert not twins.model.joiners
    assert not [seat for seat, _ in twins.seats if not seat.is_done]
