"""The drivers: they give the core threads, time and user code."""
