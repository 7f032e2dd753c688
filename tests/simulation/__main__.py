"""`python -m tests.simulation [--from N] [--seeds N] [--trace]`: play seeds; the first that fails is told, and 1."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from .policies import RandomWalk
from .stories import play
from .world import World, patched


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.simulation")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--trace", action="store_true", help="print what happened in each")
    wanted = parser.parse_args()
    logging.disable()
    steps = 0
    with patched():
        for seed in range(wanted.first, wanted.first + wanted.seeds):
            world = World(RandomWalk(seed))
            try:
                play(world, seed)
            except Exception as error:
                print(*world.trace, f"seed {seed}, step {world.steps}: {type(error).__name__}: {error}", sep="\n")
                sys.stdout.flush()
                os._exit(1)  # the actors are in the middle of what they do, and the queue would be waited for
            if wanted.trace:
                print(*world.trace, sep="\n")
            steps += world.steps
    print(f"{wanted.seeds} seeds, {steps} steps: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
