"""The demo: reads a folder of mail, starts a server on loopback, delivers everything, and proves what arrived."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rate_envelope_queue import DeadLetter, Envelope, EnvelopeQueue, QueueState, QueueStateError, StopReport
from rate_envelope_queue.workqueue import ExponentialBackoff

from .deliver import Delivery, Postman, plan
from .letters import SHIPPED, Folder, FolderError, printable, read_folder
from .report import MailboxCheck, Progress, Summary, Tally, check_mailbox
from .server import HOST, MailServer

COPIES_OF_SHIPPED = 5
CAPACITY = 100  # the sender waits when so many are under way
INTERRUPTED = 130


class Feeder:
    """Sends everything, waits until all of it is done, and stops the queue; runs beside `queue.run()`."""

    def __init__(self, queue: EnvelopeQueue, postman: Postman, tally: Tally, progress: Envelope) -> None:
        self._queue = queue
        self._postman = postman
        self._tally = tally
        self._progress = progress
        self.finished = False
        self.error: BaseException | None = None

    def work(self, deliveries: Sequence[Delivery]) -> None:
        """The body of the thread."""
        while self._queue.state is QueueState.INIT:  # run() is about to start it
            time.sleep(0.001)
        try:
            for delivery in deliveries:
                self._send(delivery)
            self._queue.join()
            self._queue.cancel(self._progress)
            self.finished = True
        except QueueStateError:
            print("\ninterrupted: what is ready is still delivered; once more cancels that too", flush=True)
        except BaseException as error:
            self.error = error
        finally:
            self._queue.stop(wait=False)

    def _send(self, delivery: Delivery) -> None:
        envelope = self._postman.kind.envelope(delivery, id=delivery.id, key=delivery.id)
        self._tally.sent(delivery.id)
        try:
            self._queue.send_wait(envelope)
        except QueueStateError:
            self._tally.unsent(delivery.id)
            raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code is 0 when the mailbox holds what it should."""
    options = _options(arguments)
    if not options.verbose:  # the queue logs each failed run with its traceback; here the table sums them up
        logging.getLogger("rate_envelope_queue").setLevel(logging.ERROR)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # names of files may not fit the terminal
    try:
        folder = read_folder(options.dir or SHIPPED)
    except FolderError as error:
        print(f"mailroom: {error}", file=sys.stderr)
        return 2
    for name, reason in folder.skipped:
        print(f"skipped {name}: {reason}")
    if not folder.letters:
        print("mailroom: no file in the folder can be delivered", file=sys.stderr)
        return 2
    copies = options.copies or (1 if options.dir else COPIES_OF_SHIPPED)
    deliveries = list(plan(folder.letters, copies))
    print(
        f"{len(folder.letters)} messages, {len(deliveries)} deliveries with {options.workers} workers, "
        f"at most {options.rate:g} starts a second: at least {len(deliveries) / options.rate:.0f} s\n",
        flush=True,
    )
    return run(folder, deliveries, options)


def run(folder: Folder, deliveries: Sequence[Delivery], options: argparse.Namespace) -> int:
    """Deliver, and print the table."""
    tally = Tally()
    with MailServer(by_hash=options.dir is not None) as server:
        postman = Postman(HOST, server.port, tally)
        queue = EnvelopeQueue(
            "mailroom",
            workers=options.workers,
            capacity=CAPACITY,
            start_rate=options.rate,
            backoff=ExponentialBackoff(0.2, 2.0),
            dead_letter_limit=len(deliveries),
        )
        # It goes to the head of the line: behind the mail it would tell how things stood some seconds ago.
        progress = Envelope.every(1.0, Progress(tally).tell, type="progress", priority=10)
        queue.send(progress)
        feeder = Feeder(queue, postman, tally, progress)
        thread = threading.Thread(target=feeder.work, args=(deliveries,), name="feeder", daemon=True)
        thread.start()
        report = queue.run()  # until the feeder stops it; SIGINT or SIGTERM drains, a second one cancels
        thread.join()
    if feeder.error is not None:
        raise feeder.error
    summary = _summary(folder, deliveries, queue, report, server, tally)
    check = _check(deliveries, report, server, tally)
    if report.timed_out:
        print("cancelled")
    print(f"\n{summary}\n\n{check}", flush=True)
    if not (check.passed and summary.accounted):
        return 1
    return 0 if feeder.finished else INTERRUPTED


def _summary(
    folder: Folder,
    deliveries: Sequence[Delivery],
    queue: EnvelopeQueue,
    report: StopReport,
    server: MailServer,
    tally: Tally,
) -> Summary:
    dead: Counter[str] = Counter()
    for letter in queue.dead_letters():
        dead[_reason(letter)] += 1
    left = [envelope for envelope in report.kept + report.returned + report.abandoned if envelope.type == "mail"]
    return Summary(
        files=len(folder.letters) + len({name for name, _ in folder.skipped} - {each.name for each in folder.letters}),
        skipped=folder.skipped,
        planned=len(deliveries),
        unsent=len(deliveries) - tally.sent_count,
        left=len(left),
        dead=dead,
        replies=server.replies,
        tally=tally,
    )


def _reason(letter: DeadLetter) -> str:
    """What the server said last, and why that was the end when it does not say so itself."""
    said = letter.error.removeprefix("RefusedError: ")
    return printable(said if not letter.reason or letter.reason in said else f"{said} ({letter.reason})")


def _check(deliveries: Sequence[Delivery], report: StopReport, server: MailServer, tally: Tally) -> MailboxCheck:
    accepted = {each.id: (each.recipient, each.content) for each in deliveries if each.id in tally.latencies}
    return check_mailbox(accepted, server.mailbox, {envelope.id for envelope in report.abandoned})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.mailroom",
        description="Deliver a folder of mail over real SMTP to a difficult server on this machine. Nothing leaves it.",
    )
    parser.add_argument("--dir", type=Path, metavar="FOLDER", help="a folder of .eml files of your own")
    parser.add_argument("--workers", type=_positive, default=8, metavar="N", help="worker threads (8)")
    parser.add_argument(
        "--copies", type=_positive, metavar="N", help=f"deliver the folder so often ({COPIES_OF_SHIPPED}; your own: 1)"
    )
    parser.add_argument("--rate", type=_rate, default=30.0, metavar="R", help="deliveries started per second (30)")
    parser.add_argument("--verbose", action="store_true", help="show the log record of each failed run")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before or after the queue's own handling of it
        sys.exit(INTERRUPTED)
