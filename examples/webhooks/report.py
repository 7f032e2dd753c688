"""Adds up what was posted, received and given up, and checks that nothing is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles

from rate_envelope_queue import QueueStats


@dataclass(frozen=True, slots=True)
class Post:
    """A hook that the service has accepted; `number` orders those with one `key`."""

    id: str
    number: int
    key: str | None
    coalesced: bool
    at: float  # when it was posted


def total(stats: Iterable[QueueStats]) -> Counter[str]:
    """Add up the numbers of all queues."""
    numbers: Counter[str] = Counter()
    for each in stats:
        numbers.update({name: value for name, value in asdict(each).items() if isinstance(value, int)})
    return numbers


@dataclass(frozen=True, slots=True)
class Report:
    """The table at the end; `faults` says what is wrong with it."""

    posts: Sequence[Post]
    received: Mapping[str, Sequence[float]]  # by hook id, the instants
    retried: Collection[str]
    dead: Mapping[str, str]  # by hook id, the reason
    left: Collection[str]  # what a stop has left in the queues
    difficulties: Mapping[str, int]
    total: Mapping[str, int]

    @property
    def superseded(self) -> set[str]:
        """The hooks that a later one with the same key has replaced."""
        latest: dict[str, int] = {}
        for post in self.posts:
            if post.key is not None:
                latest[post.key] = max(post.number, latest.get(post.key, -1))
        old = {post.id for post in self.posts if post.key is not None and post.number < latest[post.key]}
        return old - self.received.keys() - self.dead.keys() - set(self.left)

    @property
    def faults(self) -> list[str]:
        """What does not add up; nothing, when all is well."""
        total, ids = self.total, {post.id for post in self.posts}
        found = self.received.keys() | self.dead.keys() | set(self.left)
        coalesced = sum(post.coalesced for post in self.posts)
        receipts = sum(map(len, self.received.values()))
        sound = {
            "hooks were lost": ids <= found | self.superseded,
            "hooks came from nowhere": found <= ids,
            "posted is not accepted + coalesced": len(ids) == total["accepted"] + total["coalesced"],
            "coalesced is not what the service has answered": coalesced == total["coalesced"],
            "accepted is not succeeded + dropped + left": (
                total["accepted"] == total["succeeded"] + total["dropped"] + total["occupancy"]
            ),
            "fewer were received than delivered": receipts >= total["runs_succeeded"],
        }
        return [fault for fault, is_sound in sound.items() if not is_sound]

    def __str__(self) -> str:
        return "\n".join(f"{name:<24}{value}".rstrip() for name, value in self._rows())

    def _rows(self) -> Iterator[tuple[str, str]]:
        total = self.total
        yield "posted", f"{len(self.posts):6}"
        yield "delivered", f"{len(self.received):6}   {len(self.retried)} of them after a retry"
        yield "superseded", f"{len(self.superseded):6}   a later hook with the same key took their place"
        yield "dead-lettered", f"{len(self.dead):6}"
        for reason, count in Counter(self.dead.values()).most_common():
            yield "", f"{count:6}   {reason}"
        if self.left:
            yield "left by the stop", f"{len(self.left):6}"
        met = ", ".join(f"{name} {count}x" for name, count in self.difficulties.items())
        yield "failed attempts", f"{total['runs_failed']:6}   the receiver: {met or 'made no difficulties'}"
        waits = [self.received[post.id][0] - post.at for post in self.posts if post.id in self.received]
        if len(waits) > 1:
            cuts = quantiles(waits, n=100)
            yield "from post to delivery", f"p50 {cuts[49]:.2f} s   p99 {cuts[98]:.2f} s"
        yield (
            "the queues' own count",
            (
                f"{total['accepted']} accepted + {total['coalesced']} coalesced, "
                f"{total['succeeded']} succeeded + {total['dropped']} dropped + {total['occupancy']} left"
            ),
        )
        yield "check", "; ".join(self.faults) or "every hook is accounted for, and the sums agree: OK"
