"""Deliver a folder of mail over real SMTP with an EnvelopeQueue; run it with `python -m examples.mailroom`."""
