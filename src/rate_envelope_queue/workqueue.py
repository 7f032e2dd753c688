"""The work queue of Kubernetes client-go, for controllers: fair, stingy, and safe for many producers and consumers.

* Fair: items are handed out in the order in which they were added.
* Stingy: an item is not handed to two consumers at once; added again before it is handed out, it is handed out once.
* Added again while a consumer has it, it comes back once that consumer is done.
* Consumers are told when the queue is shut down.

    queue = WorkQueue[str]("deployments")
    for key in queue:                      # in each consumer; ends at shutdown
        try:
            reconcile(key)
            queue.forget(key)
        except Exception:
            queue.add_rate_limited(key)
        finally:
            queue.done(key)

`AsyncWorkQueue` is the same for asyncio: `async for key in queue`.
"""

import typing

from .drivers.items import ShutDown
from .drivers.threads.items import WorkQueue
from .limiters import (
    ExponentialBackoff,
    FastSlow,
    MaxOf,
    MaxWait,
    RateLimiter,
    TokenBucket,
    default_controller_limiter,
)

if typing.TYPE_CHECKING:
    from .drivers.aio.items import AsyncWorkQueue

__all__ = [
    "AsyncWorkQueue",
    "ExponentialBackoff",
    "FastSlow",
    "MaxOf",
    "MaxWait",
    "RateLimiter",
    "ShutDown",
    "TokenBucket",
    "WorkQueue",
    "default_controller_limiter",
]


def __getattr__(name: str) -> typing.Any:
    """Import asyncio only for those who use it."""
    if name == "AsyncWorkQueue":
        from .drivers.aio.items import AsyncWorkQueue

        globals()[name] = AsyncWorkQueue
        return AsyncWorkQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
