"""Which things may meet, and which must be seen to meet: a call, and the situation that it finds."""

from __future__ import annotations

from collections.abc import Hashable

from .naive import STOPPING
from .naive_control import Model


def situation(model: Model, key: Hashable = None) -> set[str]:
    """The words for what *model* is in; of the entry under *key*, or of any when there is no key."""
    rows = model.book if key is None else {key: model.book[key]} if key in model.book else {}
    words = {row.phase for row in rows.values()}
    words |= {"sent again" for row in rows.values() if row.again is not None}
    words |= {"cancelled" for row in rows.values() if row.is_cancelled}
    words |= {"periodic" for row in rows.values() if row.envelope.is_periodic}
    words |= {"abandoned"} if (model.ghosts if key is None else key in model.ghosts) else set()
    words |= {model.state.value} if model.state is not STOPPING else {"draining" if model.drains() else "stopping"}
    facts = {
        "absent": not rows,
        "full": not rows and len(model.book) >= model.capacity,
        "paused": model.is_paused,
        "due": any(at <= model.now for at, _, _ in model.delayed),
        "awaited": bool(model.joiners),
        "undelivered": model.undelivered > 0,
        "row": bool(model.seats),
        "oversized": len(model.active()) > model.limit,
        "held back": model.reserved > model.now,
        "escalated": model.state is STOPPING and model.stopping.has_cancelled,
        "terminating": model.state is STOPPING and model.is_ending,
    }
    return words | {word for word, is_so in facts.items() if is_so}


EVERYWHERE = "init, running, draining, stopping, stopped, terminated, paused"
MUST_MEET = {
    # sending: what is there already, what is full, what does not live
    "send": f"{EVERYWHERE}, ready, delayed, blocked, full, sent again, cancelled, periodic, row, undelivered",
    "send later": f"{EVERYWHERE}, ready, delayed, blocked, full, sent again, cancelled",
    "batch": "ready, delayed, running, blocked, full, stopping, terminated",
    "key": "ready, delayed, running, sent again, cancelled, blocked",
    "replace": "ready, delayed, running, sent again, cancelled, blocked",
    "change of kind": "ready, delayed, running, sent again, cancelled, blocked",
    "submit": f"{EVERYWHERE}, ready, delayed, full, sent again, periodic, row",
    "detach": "ready, delayed, running, sent again, absent, row, stopped",
    "send_wait": "full, ready, running, row, init, stopping, terminated, paused",
    "give_up first": "row, running, ready",
    "give_up": "row",
    # how a run ends, and what it finds
    "finish": "running, draining, stopping, sent again, cancelled, abandoned, oversized, paused, awaited, row, due",
    "period": "running, draining, stopping, sent again, cancelled, abandoned, escalated",
    "success": "running, sent again, cancelled, abandoned, draining, stopping, escalated, terminating",
    "late": "running, sent again, abandoned, draining, stopping",
    "retry": "running, sent again, cancelled, abandoned, draining, stopping, escalated, terminating",
    "retry later": "running, sent again, cancelled, abandoned, draining, stopping",
    "backoff": "running, sent again, cancelled, abandoned, draining, stopping",
    "drop": "running, sent again, cancelled, abandoned, draining, stopping",
    "stop": "running, sent again, cancelled, abandoned, draining, stopping",
    "cancelled": "running, sent again, cancelled, draining, stopping, escalated, terminating",
    "take": f"{EVERYWHERE}, due, oversized, held back, blocked, undelivered",
    "tick": "due, escalated, draining, stopping, terminating, paused, awaited",
    # taking out
    "cancel": f"{EVERYWHERE}, ready, delayed, blocked, sent again, cancelled, periodic, awaited, row, due",
    "clear": "ready, delayed, running, blocked, sent again, row, awaited, draining, stopped",
    # control
    "pause": "ready, due, draining, stopping, running, held back, stopped",
    "resume": "ready, due, draining, stopping, running, stopped",
    "resize": "running, stopping, draining, oversized, held back",
    "resize down": "running, stopping, draining, ready",
    "start": f"{EVERYWHERE}, delayed, due, sent again, abandoned, blocked, ready, undelivered, escalated",
    "drain": f"{EVERYWHERE}, delayed, due, sent again, row, awaited, abandoned, undelivered",
    "stop queue": f"{EVERYWHERE}, delayed, due, sent again, row, awaited, abandoned, undelivered, escalated",
    "terminate": "running, draining, stopping, stopped, terminated, delayed, sent again, row, awaited, blocked",
    "abandon": "running, draining, stopping, sent again",
    "join": f"{EVERYWHERE}, delayed, sent again, periodic, absent, blocked, undelivered",
    "leave_join": "awaited, running",
    "deliver": "awaited, draining, stopping, stopped, running",
}
PAIRS = [f"{call} x {word}" for call, words in MUST_MEET.items() for word in words.split(", ")]

# What hypothesis, whose programs are fewer and less fair, must meet as well: those that have a step of their own.
NAMED = [
    "send x running", "send x delayed", "send x ready", "send x full", "send x cancelled", "send x blocked",
    "send x stopping", "key x running", "replace x ready", "replace x running", "change of kind x running",
    "submit x running", "detach x ready", "send_wait x full", "give_up first x row",
    "cancel x ready", "cancel x delayed", "cancel x running", "cancel x sent again", "cancel x draining",
    "clear x delayed", "clear x running", "pause x ready", "resume x due", "resize x stopping", "resize down x running",
    "finish x running", "finish x sent again", "finish x cancelled", "finish x abandoned", "finish x stopping",
    "finish x draining", "period x draining", "retry x escalated", "start x stopping", "start x abandoned",
    "stop queue x delayed", "drain x delayed", "drain x due", "drain x sent again", "terminate x running",
    "join x running", "join x sent again", "finish x awaited",
]  # fmt: skip
