"""The webhooks example: taking hooks in, delivering them, and giving up, with real requests on loopback."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import httpx
import pytest
from examples.webhooks.deliver import RefusedError, decide
from examples.webhooks.server import serving
from fastapi import FastAPI

from rate_envelope_queue import DeadlineExceeded, retry_with_backoff

from .webhooks_world import QUICK, run, world


class TestDelivery:
    def test_a_hook_is_accepted_at_once_and_delivered(self) -> None:
        """The answer 202 does not wait for the receiver."""

        async def test() -> None:
            async with world() as here:
                released = here.receiver.hold("hello")
                answer = await here.post("hello")
                assert answer.status_code == 202
                assert answer.json().keys() == {"id", "coalesced"}
                await here.receiver.has(1)
                released.set()
                await here.join()
                stats = (await here.client.get("/stats")).json()
                (of_host,) = stats.values()
                assert list(stats) == [here.host.removeprefix("http://")]
                assert (of_host["succeeded"], of_host["runs_started"], of_host["state"]) == (1, 1, "running")
                here.check_sums()

        run(test)

    def test_5xx_is_tried_again(self) -> None:
        """Twice refused for now, then received."""

        async def test() -> None:
            async with world() as here:
                here.receiver.answer("hello", 503, 500)
                await here.post("hello")
                await here.join()
                assert here.receiver.bodies == ["hello"] * 3
                assert here.check_sums()["succeeded"] == 1

        run(test)

    def test_max_attempts_end_in_a_dead_letter(self) -> None:
        """A receiver that always fails is given up, and the dead letter says after how many attempts."""

        async def test() -> None:
            async with world(replace(QUICK, max_attempts=3)) as here:
                here.receiver.answer("hello", 500, 500, 500)
                await here.post("hello")
                await here.join()
                (letter,) = await here.dead_letters()
                assert (letter["attempts"], letter["reason"]) == (3, "max_attempts=3 reached")
                assert letter["error"] == "RefusedError: 500 Internal Server Error"
                assert here.check_sums()["dropped"] == 1

        run(test)

    def test_no_connection_is_tried_again(self) -> None:
        """Nobody listens: each attempt counts, and the dead letter says why."""

        async def test() -> None:
            async with serving(FastAPI()) as (gone,):
                pass
            async with world(replace(QUICK, max_attempts=2)) as here:
                await here.post("hello", host=gone)
                await here.join()
                (letter,) = await here.dead_letters()
                assert letter["attempts"] == 2
                assert letter["error"].startswith("ConnectError")

        run(test)

    def test_an_attempt_ends_at_its_deadline_and_the_next_succeeds(self) -> None:
        """A receiver that hangs costs an attempt."""

        async def test() -> None:
            async with world(replace(QUICK, deadline=0.2)) as here:
                released = here.receiver.hold("hello")
                await here.post("hello")
                await here.join()
                released.set()
                assert here.receiver.bodies == ["hello", "hello"]
                assert here.receiver.at[1] - here.receiver.at[0] > 0.15
                assert here.check_sums()["succeeded"] == 1

        run(test)

    def test_429_is_tried_again_when_the_receiver_says(self) -> None:
        """Retry-After outweighs the backoff, which would be a hundredth of a second."""

        async def test() -> None:
            async with world() as here:
                here.receiver.answer("hello", 429, Retry_After="1")
                await here.post("hello")
                await here.join()
                first, second = here.receiver.at
                assert second - first >= 1
                assert here.check_sums()["succeeded"] == 1

        run(test)

    def test_each_host_has_its_start_rate(self) -> None:
        """Ten hooks to one host take nine tenths of a second at ten a second; another host is not held up."""

        async def test() -> None:
            async with world(replace(QUICK, rate=10)) as here, serving(here.receiver.app) as (other,):
                for number in range(10):
                    await here.post(f"slow {number}")
                await here.post("other", host=other)
                await here.join()
                at = dict(zip(here.receiver.bodies, here.receiver.at, strict=True))
                slow = sorted(at[f"slow {number}"] for number in range(10))
                assert slow[-1] - slow[0] >= 0.85
                assert all(later - earlier > 0.02 for earlier, later in pairwise(slow))
                assert at["other"] < slow[-1]

        run(test)


class TestDecisions:
    @pytest.mark.parametrize(
        ("status", "headers", "decision"),
        [
            (301, {}, "drop('301 Moved Permanently')"),
            (404, {"Retry-After": "5"}, "drop('404 Not Found')"),
            (429, {"Retry-After": "5"}, "retry_after(5.0)"),
            (503, {"Retry-After": "5"}, "retry_after(5.0)"),
            (429, {"Retry-After": "99999999999"}, "retry_after(3600.0)"),
            (429, {"Retry-After": "soon"}, "retry_with_backoff()"),
            (429, {"Retry-After": "-1"}, "retry_with_backoff()"),
            (429, {}, "retry_with_backoff()"),
            (502, {}, "retry_with_backoff()"),
        ],
    )
    def test_what_follows_a_refusal(self, status: int, headers: dict[str, str], decision: str) -> None:
        """By status, and by Retry-After where it makes sense."""
        error = RefusedError(httpx.Response(status, headers=headers))
        assert repr(decide(None, None, error)) == decision  # type: ignore[arg-type]

    @pytest.mark.parametrize(("away", "least", "most"), [(90, 80, 90), (-90, 1, 1)])
    def test_retry_after_may_be_a_date(self, away: int, least: float, most: float) -> None:
        """One in the past means soon."""
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=away), usegmt=True)
        after = decide(None, None, RefusedError(httpx.Response(429, headers={"Retry-After": date}))).after  # type: ignore[arg-type]
        assert after is not None
        assert least <= after <= most

    def test_what_follows_other_errors(self) -> None:
        """Trouble on the line may pass; a fault in the hook will not."""
        for error in (DeadlineExceeded(), httpx.ConnectError("no"), httpx.RemoteProtocolError("no")):
            assert decide(None, None, error) == retry_with_backoff()  # type: ignore[arg-type]
        assert repr(decide(None, None, TypeError("no JSON"))) == "drop('TypeError: no JSON')"  # type: ignore[arg-type]


class TestDeadLetters:
    def test_4xx_is_a_dead_letter_that_can_be_retried(self) -> None:
        """The reason is the receiver's; once retried it is no dead letter any more; an index is not used twice."""

        async def test() -> None:
            async with world() as here:
                here.receiver.answer("first", 410)
                here.receiver.answer("second", 404)
                await here.post("first")
                await here.join()
                await here.post("second")
                await here.join()
                first, second = await here.dead_letters()
                assert (first["reason"], first["hook"]["body"], first["attempts"]) == ("410 Gone", "first", 1)
                assert (second["reason"], second["index"]) == ("404 Not Found", first["index"] + 1)
                here.answers.append(await here.client.post(f"/dead-letters/{first['index']}/retry"))
                assert here.answers[-1].status_code == 202
                assert here.answers[-1].json() == {"id": first["hook"]["id"]}
                await here.join()
                assert here.receiver.bodies == ["first", "second", "first"]
                assert await here.dead_letters() == [second]
                assert (await here.client.post(f"/dead-letters/{first['index']}/retry")).status_code == 404
                here.check_sums()

        run(test)

    def test_a_dead_letter_does_not_undo_a_later_hook(self) -> None:
        """Retrying what a later hook with its key has superseded is refused."""

        async def test() -> None:
            async with world() as here:
                here.receiver.answer("old", 410)
                await here.post("old", key="account")
                await here.join()
                await here.post("new", key="account")
                await here.join()
                (letter,) = await here.dead_letters()
                assert letter["hook"]["superseded"]
                assert (await here.client.post(f"/dead-letters/{letter['index']}/retry")).status_code == 409
                assert here.receiver.bodies == ["old", "new"]

        run(test)

    def test_the_oldest_give_way(self) -> None:
        """The list is bounded, whether it is looked at or not."""

        async def test() -> None:
            async with world(replace(QUICK, dead_letters=2)) as here:
                for body in ("1", "2", "3"):
                    here.receiver.answer(body, 410)
                    await here.post(body)
                    await here.join()
                    await here.dead_letters()
                assert [letter["hook"]["body"] for letter in await here.dead_letters()] == ["2", "3"]

        run(test)


class TestKeys:
    def test_hooks_with_one_key_coalesce_and_the_latest_wins(self) -> None:
        """While one is under way, those that follow become one; another key and no key are left alone."""

        async def test() -> None:
            async with world() as here:
                released = here.receiver.hold("1")
                answers = [await here.post("1", key="account")]
                await here.receiver.has(1)
                answers += [await here.post(body, key="account") for body in ("2", "3", "4")]
                answers += [await here.post("other", key="other"), await here.post("none")]
                await here.receiver.has(3)
                released.set()
                await here.join()
                assert [each.json()["coalesced"] for each in answers] == [False, True, True, True, False, False]
                assert sorted(here.receiver.bodies) == ["1", "4", "none", "other"]
                assert here.receiver.bodies[-1] == "4"
                assert here.check_sums()["coalesced"] == 3

        run(test)


class TestRefusing:
    def test_a_full_queue_answers_503_and_takes_it_later(self) -> None:
        """With Retry-After; what was accepted is delivered, what was refused is not."""

        async def test() -> None:
            async with world(replace(QUICK, capacity=2)) as here:
                released = here.receiver.hold("1")
                other = here.receiver.hold("2")
                await here.post("1")
                await here.post("2")
                refused = await here.post("3")
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
                assert "2 of 2 places are taken" in refused.json()["detail"]
                released.set()
                other.set()
                await here.join()
                assert sorted(here.receiver.bodies) == ["1", "2"]
                assert (await here.post("3")).status_code == 202
                await here.join()
                assert here.receiver.bodies[-1] == "3"
                assert here.check_sums()["refused"] == 1

        run(test)

    def test_too_many_hosts_answer_503(self) -> None:
        """Each host costs a queue: their number is bounded."""

        async def test() -> None:
            async with world(replace(QUICK, max_hosts=1)) as here:
                assert (await here.post("1")).status_code == 202
                assert (await here.post("2", host="http://192.0.2.1/")).status_code == 503
                await here.join()

        run(test)

    @pytest.mark.parametrize("url", ["nonsense", "ftp://example.org/", ""])
    def test_a_url_that_is_none_is_refused(self, url: str) -> None:
        """422, and no queue was made for it."""

        async def test() -> None:
            async with world() as here:
                answer = await here.client.post("/hooks", json={"url": url, "event": "e", "body": 1})
                assert answer.status_code == 422
                assert here.deliveries.queues == {}

        run(test)
