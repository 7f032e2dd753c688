"""The sans-IO core: every rule of the queue, and nothing that waits, reads a clock or calls user code."""
