"""A web service that delivers webhooks with AsyncEnvelopeQueues; run the demo with `python -m examples.webhooks`."""
