"""A controller: a reconcile loop over `WorkQueue`, as they are written for Kubernetes.

Events say only which object changed. Workers take its name, compare what is wanted with what is there, and change one
thing; a failure comes back with `add_rate_limited`, later each time. However many events there are for one object, it
is with one worker at a time, and no change is missed.
"""

from __future__ import annotations

import threading
from collections import Counter

from rate_envelope_queue.workqueue import ExponentialBackoff, WorkQueue

wanted = {"web": 3, "db": 1, "cache": 2}  # replicas
actual: Counter[str] = Counter()
calls: Counter[str] = Counter()
requeues: Counter[str] = Counter()
converged = threading.Event()


def reconcile(name: str) -> bool:
    """Bring *name* one step nearer to what is wanted; whether it is there."""
    calls[name] += 1
    if name == "db" and calls[name] <= 2:
        raise ConnectionError("the API server is busy")
    if actual[name] < wanted[name]:
        actual[name] += 1
    return actual[name] == wanted[name]


def work(queue: WorkQueue[str]) -> None:
    """Be a worker until the queue is shut down."""
    for name in queue:
        try:
            is_there = reconcile(name)
            requeues[name] = max(requeues[name], queue.num_requeues(name))
            queue.forget(name)
            if not is_there:
                queue.add(name)  # it is with us: it comes back when we are done
        except ConnectionError as error:
            queue.add_rate_limited(name)
            print(f"  {name}: {error}, requeued for the {queue.num_requeues(name)}. time")
        finally:
            queue.done(name)
        if all(actual[each] == wanted[each] for each in wanted):
            converged.set()


def main() -> None:
    """Two workers, a burst of events, and a shutdown that waits until all is done."""
    queue: WorkQueue[str] = WorkQueue("replicas", limiter=ExponentialBackoff(0.05, 1))
    events = [*wanted] * 100  # a storm, before anybody works
    for name in events:
        queue.add(name)
    print(f"events: {len(events)}, waiting: {len(queue)}")
    workers = [threading.Thread(target=work, args=(queue,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    print("converged:", converged.wait(timeout=10))
    print("drained:", queue.shut_down_with_drain(timeout=10))
    for worker in workers:
        worker.join()
    print("actual:", dict(sorted(actual.items())))
    print("calls:", dict(sorted(calls.items())), "requeues of db:", requeues["db"])


if __name__ == "__main__":
    main()
