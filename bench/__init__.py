"""The target table, measured on this machine: `python -m bench` from the root of the repository."""
