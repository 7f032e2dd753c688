"""The program: its commands, and what an exit code says."""

from __future__ import annotations

from importlib import import_module

import click

from .options import INTERRUPTED, PREFIX

COMMANDS = {"run": "running", "map": "mapping", "top": "top"}  # imported when they are asked for


class Program(click.Group):
    """A group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".{COMMANDS[cmd_name]}", __package__).command
        return command


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rate-envelope-queue", prog_name="rate-envelope-queue")
def program() -> None:
    """An in-process work queue: run the queues of a service, map a function over lines, watch a queue at work."""


program.epilog = f"Options can be set in the environment, with the prefix {PREFIX}: see the help of each command."


def run(arguments: list[str] | None = None) -> int:
    """Run the program and give its exit code. What was wrong with the usage is told on stderr."""
    try:
        answer = program.main(arguments, prog_name="rate-envelope-queue", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return answer if isinstance(answer, int) else 0
