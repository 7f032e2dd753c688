"""Start and stop: what has not run is kept and goes on at the next start; at the end the rest is returned.

Parcels are packed one at a time. The first stop comes in the middle: the parcel in hand is finished, the others stay
where they are, and while the queue is stopped nobody may bring more. After the second start the packing goes on.
`terminate` ends it for good, and hands back what was not packed.
"""

from __future__ import annotations

import threading

from rate_envelope_queue import (
    Context,
    Envelope,
    EnvelopeQueue,
    QueueNotRunningError,
    QueueTerminatedError,
    StopMode,
    StopReport,
)

packed: list[int] = []
third_is_packed = threading.Event()


def pack(ctx: Context, envelope: Envelope[int]) -> None:
    """Take a while, and write down what is done."""
    ctx.wait(0.05)
    packed.append(envelope.payload)
    if len(packed) == 3:
        third_is_packed.set()


def show(title: str, report: StopReport) -> None:
    """Print what a stop did."""
    kept, returned = ([envelope.payload for envelope in part] for part in (report.kept, report.returned))
    print(f"{title}: state={report.state.value} mode={report.mode.value} kept={kept} returned={returned}")


def main() -> None:
    """Start, send, stop, start again, terminate."""
    queue = EnvelopeQueue("packing", workers=1, stop_mode=StopMode.STOP)
    queue.start()
    queue.send(*(Envelope.once(pack, number) for number in range(1, 9)))
    third_is_packed.wait(timeout=10)
    report = queue.stop()
    show("first stop", report)
    print("nothing lost:", packed + [envelope.payload for envelope in report.kept] == list(range(1, 9)))

    try:
        queue.send(Envelope.once(pack, 9))
    except QueueNotRunningError as error:
        print(f"refused: {type(error).__name__}")

    queue.start()
    queue.send(Envelope.once(pack, 9))
    queue.join()
    print("packed in order:", packed == list(range(1, 10)))

    queue.send(Envelope.once(pack, 10), delay=60)  # in a minute, which will not come
    show("the end", queue.terminate())
    try:
        queue.start()
    except QueueTerminatedError as error:
        print(f"refused: {type(error).__name__}")


if __name__ == "__main__":
    main()
