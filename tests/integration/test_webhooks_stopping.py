"""The webhooks example, and `lifespan`: starting, stopping, and what is left, with real requests on loopback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from urllib.parse import urlsplit

import httpx
import pytest
from examples.webhooks.deliver import Hook
from examples.webhooks.deliveries import Deliveries
from examples.webhooks.report import total
from examples.webhooks.server import serving
from examples.webhooks.service import create_app
from fastapi import FastAPI

from rate_envelope_queue import AsyncContext, AsyncEnvelopeQueue, Envelope, QueueState

from .webhooks_world import QUICK, Scripted, run, world


class TestStopping:
    def test_a_stop_delivers_what_is_ready_and_refuses_the_rest(self) -> None:
        """While one is under way: 503 with Retry-After, and retries of dead letters are refused, too."""

        async def test() -> None:
            async with world(replace(QUICK, workers=1)) as here:
                here.receiver.answer("dead", 410)
                await here.post("dead")
                await here.join()
                released = here.receiver.hold("1")
                for body in ("1", "2", "3"):
                    await here.post(body)
                await here.receiver.has(2)
                stop = asyncio.create_task(here.deliveries.stop())
                refused = await here.post("4")
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
                assert (await here.post("5", host="http://192.0.2.1/")).status_code == 503, "a new host"
                assert (await here.client.post("/dead-letters/0/retry")).status_code == 503
                assert len(await here.dead_letters()) == 1
                released.set()
                await stop
                assert here.receiver.bodies == ["dead", "1", "2", "3"]
                assert here.deliveries.undelivered == []
                assert here.check_sums()["occupancy"] == 0

        run(test)

    def test_a_stop_that_takes_too_long_keeps_what_is_left(self) -> None:
        """It ends in time; what was under way, what waited, and what was to be retried is kept and told."""

        async def test() -> None:
            async with world(replace(QUICK, workers=1, stop_timeout=0.1, first_backoff=50, longest_backoff=60)) as here:
                here.receiver.answer("later", 503)
                await here.post("later")
                await here.receiver.has(1)
                released = here.receiver.hold("1")
                for body in ("1", "2"):
                    await here.post(body)
                await here.receiver.has(2)
                began = monotonic()
                await here.deliveries.stop()
                assert monotonic() - began < 5
                released.set()
                assert sorted(hook.body for hook in here.deliveries.undelivered) == ["1", "2", "later"]
                assert here.check_sums()["occupancy"] == 3

        run(test)

    def test_the_next_lifespan_goes_on_with_what_was_left(self) -> None:
        """In one process, a service that is started again delivers it, with the client of its new life."""

        async def test() -> None:
            receiver, deliveries = Scripted(), Deliveries(replace(QUICK, stop_timeout=0))
            async with serving(receiver.app) as (host,):
                released = receiver.hold("hello")
                async with deliveries.lifespan():
                    assert await deliveries.accept(Hook(host, "changed", "hello"))
                    await receiver.has(1)
                released.set()
                assert [hook.body for hook in deliveries.undelivered] == ["hello"]
                async with deliveries.lifespan():
                    assert await deliveries.queues[urlsplit(host).netloc].join(timeout=20)
            assert receiver.bodies == ["hello", "hello"]
            assert deliveries.undelivered == []
            sums = total(deliveries.stats().values())
            assert (sums["accepted"], sums["succeeded"], sums["occupancy"]) == (1, 1, 0)

        run(test)


class TestLifespan:
    def test_a_queue_starts_and_stops_with_the_app(self) -> None:
        """`FastAPI(lifespan=queue.lifespan)`: what was accepted is done when the server has stopped."""

        async def test() -> None:
            done: list[int] = []

            async def work(ctx: object, envelope: Envelope[int]) -> None:
                done.append(envelope.payload)

            queue = AsyncEnvelopeQueue("lifespan", workers=1)
            app = FastAPI(lifespan=queue.lifespan)

            @app.post("/{number}", status_code=202)
            async def accept(number: int) -> None:
                queue.send(Envelope(work, payload=number))

            async with serving(app) as (url,), httpx.AsyncClient(base_url=url, trust_env=False) as client:
                assert queue.state is QueueState.RUNNING
                for number in range(20):
                    assert (await client.post(f"/{number}")).status_code == 202
            assert queue.state is QueueState.STOPPED
            assert done == list(range(20))

        run(test)

    def test_a_queue_stops_after_an_exception_in_the_app(self) -> None:
        """The exception comes out, what ran has finished, and what waited is kept."""

        async def test() -> None:
            done: list[int] = []
            begun = asyncio.Event()

            async def work(ctx: AsyncContext, envelope: Envelope[int]) -> None:
                begun.set()
                while not ctx.stopping:
                    await asyncio.sleep(0)
                done.append(envelope.payload)

            async def live(app: FastAPI) -> None:
                async with app.router.lifespan_context(app):
                    queue.send(*(Envelope(work, payload=number) for number in range(3)))
                    await begun.wait()
                    raise ZeroDivisionError

            queue = AsyncEnvelopeQueue("lifespan", workers=1)
            with pytest.raises(ZeroDivisionError):
                await live(FastAPI(lifespan=queue.lifespan))
            assert queue.state is QueueState.STOPPED
            assert done == [0]
            assert queue.last_report is not None
            assert [envelope.payload for envelope in queue.last_report.kept] == [1, 2]

        run(test)

    def test_deliveries_stop_after_an_exception_in_the_app(self) -> None:
        """What the app raises comes out, after the queues have stopped and nothing was lost."""

        async def test() -> None:
            receiver, deliveries = Scripted(), Deliveries(QUICK)

            async def live(app: FastAPI) -> None:
                async with app.router.lifespan_context(app):
                    assert await deliveries.accept(Hook(host, "changed", "hello"))
                    raise ZeroDivisionError

            async with serving(receiver.app) as (host,):
                with pytest.raises(ZeroDivisionError):
                    await live(create_app(deliveries))
            (queue,) = deliveries.queues.values()
            assert queue.state is QueueState.STOPPED
            assert receiver.bodies == ["hello"]
            assert queue.stats().succeeded == 1

        run(test)

    def test_an_exception_in_an_endpoint_stops_nothing(self) -> None:
        """One request fails with 500; the service goes on, and stops as ever."""

        async def test() -> None:
            deliveries = Deliveries(QUICK)
            app = create_app(deliveries)

            @app.get("/broken")
            async def broken() -> None:
                raise ZeroDivisionError

            async with serving(app) as (url,), httpx.AsyncClient(base_url=url, trust_env=False) as client:
                assert (await client.get("/broken")).status_code == 500
                assert (await client.get("/stats")).status_code == 200

        run(test)
