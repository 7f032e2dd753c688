"""Contract section 3, rule 3: stamps around invoke."""

from __future__ import annotations

import logging

import pytest

from rate_envelope_queue import Envelope, EnvelopeType, StopEnvelope, logging_stamp, retry_now

from .harness import threads_only
from .running import finish, marks, raises, run, started


def stamp(h, name):
    """A stamp that marks when it is folded, entered and left."""

    def fold(next):
        h.mark(f"fold {name}")

        def invoke(ctx, envelope):
            h.mark(f"> {name}")
            try:
                return next(ctx, envelope)
            finally:
                h.mark(f"< {name}")

        return invoke

    return fold


def calls(h):
    return [label for label in h.labels() if not label.startswith("fold")]


def folds(h):
    return [label for label in h.labels() if label.startswith("fold")]


def test_3_stamps_of_the_queue_are_outermost(h):
    """3: stamps around invoke: queue stamps outermost in the order given, then the envelope's, then invoke."""
    envelope = Envelope.once(
        marks(h, "invoke"),
        before_hook=marks(h, "before"),
        after_hook=marks(h, "after"),
        stamps=[stamp(h, "c"), stamp(h, "d")],
    )
    run(h, envelope, stamps=[stamp(h, "a"), stamp(h, "b")])
    entered, left = ["> a", "> b", "> c", "> d"], ["< d", "< c", "< b", "< a"]
    assert calls(h) == ["before", *entered, "invoke", *left, "after"]
    assert sorted(h.labels()[:4]) == ["fold a", "fold b", "fold c", "fold d"]


def test_3_the_chain_is_folded_once_per_queue_and_policy(h):
    """3: the chain is folded at most once per queue and policy, before the first run."""
    kind = EnvelopeType("mail", invoke=marks(h, "invoke"), stamps=(stamp(h, "own"),))
    other = EnvelopeType("news", invoke=marks(h, "invoke"), stamps=(stamp(h, "other"),))
    queue, _ = run(h, kind.envelope(1), kind.envelope(2), stamps=[stamp(h, "queue")])
    queue.send(kind.envelope(3))
    finish(queue)
    assert sorted(folds(h)) == ["fold own", "fold queue"]
    queue.send(other.envelope(1))
    finish(queue)
    assert sorted(folds(h)) == ["fold other", "fold own", "fold queue", "fold queue"]


@threads_only
def test_3_the_chain_is_folded_once_however_many_workers_come_first(h):
    """3: the chain is folded at most once per queue and policy, also when several workers need it at the same time."""
    gate = h.gate()

    def slow(next):
        h.mark("fold")
        gate.wait(None)
        return next

    kind = EnvelopeType("mail", invoke=marks(h, "invoke"), stamps=(slow,))
    queue = started(h, workers=4)
    queue.send(*[kind.envelope(number) for number in range(8)])
    h.until(lambda: queue.stats().running == 4)
    queue.send(Envelope.once(marks(h, "other")))
    gate.open()
    finish(queue)
    assert sorted(h.labels()) == ["fold", *["invoke"] * 8, "other"]


def test_3_the_chain_is_folded_once_for_all_retries(h):
    """3: the chain is folded at most once per queue and policy, also when its envelope is retried."""
    run(
        h,
        Envelope.once(
            raises(ValueError), max_attempts=4, stamps=[stamp(h, "own")], failure_hook=lambda *args: retry_now()
        ),
    )
    assert folds(h) == ["fold own"]
    assert calls(h) == ["> own", "< own"] * 4


def test_3_a_chain_belongs_to_its_queue(h):
    """3: the chain is folded per queue: an envelope in two queues gets the stamps of each."""
    envelope = Envelope.once(marks(h, "invoke"), stamps=[stamp(h, "own")])
    run(h, envelope, name="one", stamps=[stamp(h, "one")])
    run(h, envelope, name="two", stamps=[stamp(h, "two")])
    assert calls(h) == ["> one", "> own", "invoke", "< own", "< one", "> two", "> own", "invoke", "< own", "< two"]
    assert sorted(folds(h)) == ["fold one", "fold own", "fold own", "fold two"]


def test_3_stamps_do_not_leak_between_envelopes(h):
    """3: a stamp of one envelope is not around another's invoke."""
    run(h, Envelope.once(marks(h, "a"), stamps=[stamp(h, "own")]), Envelope.once(marks(h, "b")))
    assert calls(h) == ["> own", "a", "< own", "b"]


def test_3_a_stamp_gets_context_and_envelope_and_may_change_the_result(h):
    """3: a stamp is `stamp(next) -> invoker`: it sees context, envelope and result, and its own result counts."""
    seen = []

    def doubles(next):
        def invoke(ctx, envelope):
            seen.append((ctx.attempt, envelope))
            return 2 * next(ctx, envelope)

        return invoke

    queue = started(h)
    envelope = Envelope.once(lambda ctx, envelope: 21, stamps=[doubles])
    future = queue.submit(envelope)
    finish(queue)
    assert future.result(timeout=0) == 42
    assert seen == [(1, envelope)]


def test_3_a_stamp_may_leave_invoke_out(h):
    """3: what the outermost invoker returns is a success, whether or not it called the next one."""
    queue, _ = run(h, Envelope.once(marks(h, "invoke"), stamps=[lambda next: marks(h, "instead")]))
    assert h.labels() == ["instead"]
    assert queue.stats().succeeded == 1


def test_3_a_stamp_may_mend_or_stop_a_failure(h):
    """3: what comes out of the stamps is how invoke ended: an error that one of them catches is none."""

    def mends(next):
        def invoke(ctx, envelope):
            try:
                return next(ctx, envelope)
            except ValueError:
                return "mended"

        return invoke

    queue, _ = run(
        h,
        Envelope.once(raises(ValueError), stamps=[mends]),
        Envelope.once(marks(h, "invoke"), stamps=[lambda next: raises(StopEnvelope)]),
        Envelope.once(marks(h, "invoke"), stamps=[lambda next: raises(ValueError)]),
    )
    stats = queue.stats()
    assert (stats.succeeded, stats.stopped, stats.dropped) == (1, 1, 1)
    assert h.labels() == []


@pytest.mark.parametrize("owner", ["queue", "envelope"])
@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_3_a_stamp_that_raises_when_folded_is_a_failed_run(h, owner, error):
    """3: a stamp that raises when it is folded is a failed run, of every envelope that needs it and of no other."""
    failures = []

    def fold(next):
        raise error("no chain")

    options = {"stamps": [fold]}
    bad = Envelope.once(
        marks(h, "invoke"),
        failure_hook=lambda ctx, envelope, error: failures.append(error),
        **(options if owner == "envelope" else {}),
    )
    queue, seen = run(h, bad, Envelope.once(marks(h, "next")), **(options if owner == "queue" else {}))
    assert [type(error) for error in failures] == [error]
    assert h.labels() == (["next"] if owner == "envelope" else [])
    dropped = 1 if owner == "envelope" else 2
    assert (queue.stats().dropped, queue.stats().runs_failed, len(seen.failed)) == (dropped, dropped, dropped)


def test_3_a_chain_that_could_not_be_folded_fails_each_run(h):
    """3: a stamp that raises when it is folded is a failed run, each time: the handler is never called without its
    stamps."""

    def fold(next):
        h.mark("fold")
        raise ValueError

    envelope = Envelope.once(marks(h, "invoke"), stamps=[fold], max_attempts=3, failure_hook=lambda *args: retry_now())
    queue, _ = run(h, envelope)
    assert set(h.labels()) == {"fold"}
    assert (queue.stats().runs_failed, queue.stats().dropped) == (3, 1)


@pytest.mark.parametrize("answer", [None, 5])
def test_3_a_stamp_that_returns_no_invoker_is_a_failed_run(h, answer):
    """3: a stamp that gives something that cannot be called is a failed run."""
    queue, _ = run(h, Envelope.once(marks(h, "invoke"), stamps=[lambda next: answer]))
    assert h.labels() == []
    assert (queue.stats().runs_failed, queue.stats().dropped) == (1, 1)


def test_3_a_periodic_whose_stamp_raises_goes_on(h):
    """3: a stamp that raises is a failed run, and a periodic waits for its next time."""
    queue = started(h)
    queue.send(Envelope.every(h.s(1), marks(h, "invoke"), stamps=[raises(ValueError)]))
    h.until(lambda: queue.stats().runs_failed >= 2)
    assert (h.labels(), len(queue)) == ([], 1)


def test_3_logging_stamp_writes_one_line_per_call(h, caplog):
    """3: `logging_stamp` logs type, id, attempt, seconds and how it ended, and changes nothing else."""
    caplog.set_level("INFO", logger="mail")
    queue, _ = run(
        h,
        Envelope.once(marks(h, "run"), type="mail", id=7),
        Envelope.once(raises(lambda: ValueError("no\nserver")), type="mail", id=8),
        stamps=[logging_stamp("mail")],
    )
    good, bad = [record.getMessage() for record in caplog.records if record.name == "mail"]
    assert good.startswith("mail id=7 attempt=1 took ")
    assert good.endswith(" s: done")
    assert bad.endswith(" s: ValueError: no\\nserver")
    assert (queue.stats().succeeded, queue.stats().dropped) == (1, 1)


def test_3_what_is_done_to_a_list_of_stamps_later(h):
    """3: an envelope has the stamps that stood in the list when it was made, whatever is done to the list later."""
    stamps = [stamp(h, "first")]
    invoke = marks(h, "invoke")
    early = Envelope(invoke, stamps=stamps)
    stamps.append(stamp(h, "second"))
    late = Envelope(invoke, stamps=stamps)
    run(h, early)
    assert calls(h) == ["> first", "invoke", "< first"]
    h.log.clear()
    run(h, late)
    assert calls(h) == ["> first", "> second", "invoke", "< second", "< first"]


def test_3_envelopes_with_the_same_list_of_stamps_share_a_chain(h):
    """3: the chain is folded once per policy, and envelopes that are alike, stamps included, share one."""
    stamps, invoke = [stamp(h, "own")], marks(h, "invoke")
    run(h, *[Envelope(invoke, stamps=stamps) for _ in range(3)])
    assert folds(h) == ["fold own"]


def test_3_a_kind_keeps_its_stamps(h):
    """3: a kind has the stamps that it was made with, from a generator or from a list that is changed later; an
    envelope with a policy of its own too."""
    changed = [stamp(h, "a")]
    kinds = [
        EnvelopeType("generator", invoke=marks(h, "invoke"), stamps=(each for each in [stamp(h, "a")])),
        EnvelopeType("changed", invoke=marks(h, "invoke"), stamps=changed),
    ]
    changed.clear()
    for kind in kinds:
        h.log.clear()
        run(h, kind.envelope(), kind.envelope(priority=1))
        assert calls(h) == ["> a", "invoke", "< a"] * 2


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_3_logging_stamp_does_not_fail_a_run(h, error):
    """3: `logging_stamp` changes nothing of the run, whatever a filter or a record factory of the service does."""
    logger = logging.getLogger("mail that cannot be logged")
    logger.addFilter(raises(error))
    queue = started(h, stamps=[logging_stamp(logger, level=logging.CRITICAL)])
    good = queue.submit(Envelope.once(lambda ctx, envelope: "sent"))
    bad = queue.submit(Envelope.once(raises(KeyError)))
    finish(queue)
    assert good.result(timeout=0) == "sent"
    assert isinstance(bad.exception(timeout=0), KeyError)
