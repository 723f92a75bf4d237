"""The command line: `python -m lwcourse COMMAND`; `--help` lists the commands. One file a group of commands."""
import argparse
import sys
from collections.abc import Callable

from lwcourse.cli import authoring, environment, networks, timing

GROUPS = (networks, timing, environment, authoring)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lwcourse", description="Lightweight vision networks of the course.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words)
        sub.set_defaults(function=function)
        return sub

    for group in GROUPS:
        group.add_commands(command)
    return top


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        return args.function(args)
    except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
