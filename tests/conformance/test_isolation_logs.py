"""Contract section 9: what a failed run leaves behind: one event, and one log record of harmless text."""

from __future__ import annotations

import logging
from contextlib import contextmanager

import pytest

from rate_envelope_queue import Envelope, RetryEnvelope, StopEnvelope, drop, retry_now

from .hostile import ERRORS, NoFormat
from .running import Seen, finish, marks, raises, run, run_once, started

SHOWN = logging.Formatter("%(levelname)s %(message)s")


@pytest.fixture
def records(caplog):
    """The records on the logger of the package, debugging aside."""
    caplog.set_level(logging.DEBUG, logger="rate_envelope_queue")
    return lambda: [
        record for record in caplog.records if record.name == "rate_envelope_queue" and record.levelno >= logging.INFO
    ]


def fails_deep_inside():
    raise ValueError("from the depth")


def test_9_one_event_with_the_traceback(h):
    """9: each failed run emits one event with the traceback."""

    def invoke(ctx, envelope):
        fails_deep_inside()

    envelope = Envelope.once(invoke, max_attempts=3, failure_hook=lambda *args: retry_now())
    queue, seen = run(h, envelope)
    assert [(event.queue, event.envelope, event.attempt) for event in seen.failed] == [
        (queue.name, envelope, attempt) for attempt in (1, 2, 3)
    ]
    for event in seen.failed:
        assert "fails_deep_inside" in event.traceback()
        assert event.traceback().rstrip().endswith("ValueError: from the depth")


@pytest.mark.parametrize("attempts", [1, 3])
def test_9_one_log_record_per_failed_run(h, records, attempts):
    """9: each failed run emits one log record on the logger `rate_envelope_queue`."""
    run(
        h,
        Envelope.once(marks(h, "ok")),
        Envelope.once(
            raises(lambda: ValueError("from a run")),
            type="mail",
            max_attempts=attempts,
            failure_hook=lambda *args: retry_now(),
        ),
    )
    assert len(records()) == attempts
    assert all("mail" in record.getMessage() for record in records())
    assert all("ValueError: from a run" in SHOWN.format(record) for record in records())


def test_9_one_log_record_per_failed_run_of_a_periodic(h, records):
    """9: errors of periodic tasks leave one event and one log record each."""
    _, seen, _ = run_once(h, Envelope.every(1000, raises(ValueError)))
    assert (len(seen.failed), len(records())) == (1, 1)


def test_9_a_run_that_ended_by_retry_envelope_is_a_failed_run(h, records):
    """9: a run that ended by RetryEnvelope counts as failed, so it emits one event and one log record."""

    def invoke(ctx, envelope):
        if ctx.attempt == 1:
            raise RetryEnvelope(after=h.s(0.1))

    _, seen = run(h, Envelope.once(invoke))
    assert (len(seen.failed), len(records())) == (1, 1)


def test_9_runs_that_did_not_fail_leave_no_record(h, records):
    """9: only failed runs emit a record: not a success, nor a stop, nor a cancelled run."""

    def waits(ctx, envelope):
        h.mark("in")
        ctx.wait()
        ctx.check()

    queue = started(h)
    queue.send(Envelope.once(marks(h, "ok")), Envelope.once(raises(StopEnvelope)), Envelope.once(waits))
    h.until(lambda: "in" in h.labels())
    queue.terminate()
    assert queue.stats().runs_cancelled == 1
    assert records() == []


def test_9_a_hook_that_fails_is_reported(h, records):
    """9: an exception of an after, success or failure hook is reported: one event and one log record."""
    _, seen = run(h, Envelope.once(marks(h, "ok"), after_hook=raises(lambda: ValueError("from a hook"))))
    assert (len(seen.failed), len(seen.hook_failed), len(records())) == (0, 1, 1)
    assert "from a hook" in SHOWN.format(records()[0])


FORGED = "\nCRITICAL forged\r\x1b[31mred\x00\u202egnp.exe"


@pytest.mark.parametrize("where", ["error", "type", "id", "key"])
def test_9_text_from_users_is_escaped(h, records, where):
    """9: text from users is escaped in logs: no line, colour or direction can be forged."""
    message = FORGED if where == "error" else "plain"
    names = {where: FORGED} if where != "error" else {}
    run(h, Envelope.once(raises(lambda: ValueError(message)), **names))
    (record,) = records()
    shown = SHOWN.format(record)
    assert not any(mark in shown for mark in ("\r", "\x1b", "\x00", "\u202e"))
    assert not any(line.startswith("CRITICAL") for line in shown.splitlines())


def test_9_the_name_of_an_exception_class_is_text_from_users_too(h, records):
    """9: text from users is escaped in logs, the name of an exception class included."""
    run(h, Envelope.once(raises(type("Evil\nCRITICAL forged\x1b[31m", (Exception,), {}))))
    (record,) = records()
    shown = SHOWN.format(record)
    assert "\x1b" not in shown
    assert not any(line.startswith("CRITICAL") for line in shown.splitlines())


@pytest.mark.parametrize("where", ["error", "type", "id", "key"])
def test_9_text_from_users_is_bounded(h, records, where):
    """9: text from users is bounded in logs."""
    long = "x" * 3_000_000
    names = {where: long} if where != "error" else {}
    run(h, Envelope.once(raises(lambda: ValueError(long if where == "error" else "plain")), **names))
    (record,) = records()
    assert len(SHOWN.format(record)) < 100_000


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_9_every_error_can_be_logged_and_its_traceback_read(h, records, error):
    """9: an exception whose `__str__` raises, or that is hostile otherwise, still makes one event and one log
    record."""
    _, seen = run(h, Envelope.once(raises(error)))
    (record,) = records()
    (event,) = seen.failed
    assert SHOWN.format(record)
    assert isinstance(event.traceback(), str)
    assert len(event.traceback()) < 100_000


class ShyEnvelope(Envelope):
    """An envelope that will not say what it is."""

    __slots__ = ()

    @property
    def id(self):
        raise RuntimeError("no id for you")


@pytest.mark.parametrize("shy", ["envelope", "type"])
def test_9_an_envelope_that_cannot_be_named_is_settled_as_decided(h, records, shy):
    """9: what cannot be read off an envelope when its failed run is reported does not change what follows: the hook
    decided a retry."""
    decides = {"failure_hook": lambda ctx, envelope, error: retry_now() if ctx.attempt == 1 else drop("enough")}
    if shy == "envelope":
        envelope = ShyEnvelope(raises(ValueError), id=7, type="mail", **decides)
    else:
        envelope = Envelope(raises(ValueError), id=7, type=NoFormat("mail"), **decides)
    queue, seen = run(h, envelope)
    assert [letter.reason for letter in queue.dead_letters()] == ["enough"]
    assert (len(seen.failed), len(records())) == (2, 2)
    assert all("mail id=7" in record.getMessage() for record in records())


def test_9_a_report_that_fails_does_not_change_what_follows(h, monkeypatch):
    """9: a report is only a report: when it fails, a run is retried or dropped as was decided."""
    queue = started(h)
    monkeypatch.setattr(queue._reporter, "failed", raises(SystemExit))
    monkeypatch.setattr(queue._reporter, "hook_failed", raises(SystemExit))
    hooks = {"failure_hook": lambda ctx, envelope, error: retry_now() if ctx.attempt == 1 else "nonsense"}
    queue.send(Envelope(raises(ValueError), **hooks))
    finish(queue)
    (letter,) = queue.dead_letters()
    assert (letter.attempts, letter.reason[:20]) == (2, "failure_hook failed:")


@pytest.mark.parametrize("field", ["queue", "attempt", "error"])
def test_9_a_record_factory_of_the_service_keeps_its_fields(h, records, field):
    """9: one log record per failed run, also when the service's record factory sets fields with everyday names."""
    with record_factory(**{field: "the service's own"}):
        run(h, Envelope(raises(lambda: ValueError("from a run")), type="mail"))
    (record,) = records()
    assert getattr(record, field) == "the service's own"
    assert "from a run" in record.getMessage()


def test_9_a_record_factory_that_takes_our_fields_loses_no_record(h, records):
    """9: one log record per failed run: when the service has a field of ours already, the record comes without."""
    with record_factory(envelope_error="the service's own"):
        run(h, Envelope(raises(lambda: ValueError("from a run")), type="mail"))
    (record,) = records()
    assert record.envelope_error == "the service's own"
    assert not hasattr(record, "envelope_type")
    assert "ValueError: from a run" in record.getMessage()


@contextmanager
def record_factory(**fields):
    """Records of the whole process get these *fields* meanwhile."""
    plain = logging.getLogRecordFactory()

    def factory(*args, **options):
        record = plain(*args, **options)
        record.__dict__.update(fields)
        return record

    logging.setLogRecordFactory(factory)
    try:
        yield
    finally:
        logging.setLogRecordFactory(plain)


def test_9_what_a_record_tells(h, records):
    """9: the log record of a failed run names the envelope, its key included, in its text and in its fields."""
    queue, _ = run(h, Envelope(raises(lambda: ValueError("no")), type="mail", id=7, key=("user", 5)))
    (record,) = records()
    assert "run 1 of mail id=7 key=('user', 5) failed" in record.getMessage()
    fields = {name: value for name, value in vars(record).items() if name.startswith("envelope_")}
    assert fields == {
        "envelope_queue": queue.name,
        "envelope_type": "mail",
        "envelope_id": "7",
        "envelope_key": "('user', 5)",
        "envelope_attempt": 1,
        "envelope_error": "ValueError: no",
    }


def test_9_a_logging_handler_that_raises_ends_nothing(h):
    """9: a logging handler is user code: one that raises ends no worker."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise SystemExit

    handler = Broken()
    logger = logging.getLogger("rate_envelope_queue")
    logger.addHandler(handler)
    try:
        queue, seen = run(h, Envelope.once(raises(ValueError)), Envelope.once(marks(h, "next")))
    finally:
        logger.removeHandler(handler)
    assert (h.labels(), queue.stats().dropped, len(seen.failed)) == (["next"], 1, 1)


def test_9_a_logging_handler_may_use_the_queue(h):
    """9: a logging handler is user code: it is called without a lock."""
    found = []

    class Looks(logging.Handler):
        def emit(self, record):
            found.append(queue.stats().accepted)
            queue.send(Envelope.once(marks(h, "sent by the log")))

    handler, seen = Looks(), Seen()
    queue = started(h, observers=(seen,))
    logger = logging.getLogger("rate_envelope_queue")
    logger.addHandler(handler)
    try:
        queue.send(Envelope.once(raises(ValueError)))
        finish(queue)
    finally:
        logger.removeHandler(handler)
    assert (found, h.labels()) == ([1], ["sent by the log"])
