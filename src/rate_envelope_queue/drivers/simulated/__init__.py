"""Queues on a virtual clock, for tests."""
