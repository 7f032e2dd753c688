"""The command line, `rate-envelope-queue`: run queues, map a function over lines, watch a queue. The extra `cli`.

Nothing else of the package imports it. It uses the public API alone, and other extras by name, when they are asked for.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code; without the extra `cli`, say so and exit with 2."""
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print(
            f"rate-envelope-queue: the command line needs {error.name}: pip install 'rate-envelope-queue[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(run())
