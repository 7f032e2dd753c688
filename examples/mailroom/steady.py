"""The mailroom without end, to be looked at: the same mail over and over, and a page that shows what the queue does."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from itertools import count

from rate_envelope_queue import Envelope, EnvelopeQueue, QueueStateError
from rate_envelope_queue.dashboard import serve
from rate_envelope_queue.workqueue import ExponentialBackoff

from .deliver import Delivery, Postman, plan
from .letters import SHIPPED, read_folder
from .report import Tally
from .server import HOST, MailServer

CAPACITY = 100
RATE = 20.0  # deliveries started per second
STOP_SECONDS = 5.0  # for what is under way when it is to end


class NoTally(Tally):
    """Counts nothing: it would grow without end."""

    def started(self, attempt: int) -> None: ...

    def delivered(self, delivery_id: str, attempt: int) -> None: ...


def without_end() -> Iterator[Delivery]:
    """Copy after copy of the folder that comes with the demo; each has ids and senders of its own."""
    letters = read_folder(SHIPPED).letters
    for copy in count(1):
        for delivery in plan(letters, 1):
            local, _, domain = delivery.sender.rpartition("@")
            sender = delivery.sender if local.endswith('"') else f"{local}+{copy}@{domain}"
            yield Delivery(f"{copy}-{delivery.id}", delivery.letter, sender, delivery.recipient)


def feed(queue: EnvelopeQueue, postman: Postman, server: MailServer, is_over: threading.Event) -> None:
    """Send one delivery after another; while the queue is stopped, wait until somebody starts it again."""
    for delivery in without_end():
        envelope = postman.kind.envelope(delivery, id=delivery.id, key=delivery.id)
        while not is_over.is_set():
            try:
                queue.send_wait(envelope)
                break
            except QueueStateError:
                is_over.wait(0.2)
        if is_over.is_set():
            return
        if len(server.mailbox) > 1000:
            server.mailbox.clear()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.mailroom.steady", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port of the page (a free one)")
    options = parser.parse_args(arguments)
    logging.getLogger("rate_envelope_queue").setLevel(logging.ERROR)  # the page shows what fails
    logging.getLogger("rate_envelope_queue.dashboard").setLevel(logging.WARNING)
    is_over = threading.Event()
    queue = EnvelopeQueue(
        "mailroom", workers=8, capacity=CAPACITY, start_rate=RATE, backoff=ExponentialBackoff(0.5, 20.0)
    )
    with MailServer() as server, serve(queue, port=options.port, allow_actions=True) as page:
        postman = Postman(HOST, server.port, NoTally())
        queue.send(Envelope.every(30, lambda ctx, envelope: None, type="round", id="every half minute"))
        queue.start()
        thread = threading.Thread(target=feed, args=(queue, postman, server, is_over), name="feeder", daemon=True)
        thread.start()
        print(f"open {page.url}\nCtrl-C ends it", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nstopping", flush=True)
        finally:
            is_over.set()
            queue.stop(timeout=STOP_SECONDS)
            thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
