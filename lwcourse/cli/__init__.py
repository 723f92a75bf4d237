"""The command line: `python -m lwcourse COMMAND`; `--help` lists the commands. One file a group of commands."""
import argparse
import sys
from collections.abc import Callable
from importlib.metadata import requires
from typing import NoReturn

from packaging.requirements import Requirement

from lwcourse.cli import authoring, environment, input, networks, timing, training, weights
from lwcourse.running import drop_output, error_words

GROUPS = (networks, training, weights, timing, input, environment, authoring)


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="python -m lwcourse", description="Lightweight vision networks of the course.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words)
        sub.set_defaults(function=function, command=name)
        return sub

    for group in GROUPS:
        group.add_commands(command)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Whatever fails is one line on stderr, and exit code 2; 130 for an interrupt."""
    args = parser().parse_args(arguments)
    args.typed = sys.argv[1:] if arguments is None else arguments
    try:
        return args.function(args)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read along, such as `head`, has seen enough
        drop_output()
        return 0
    except ModuleNotFoundError as error:
        words = _missing(args, error)
    except (ValueError, TypeError, FileNotFoundError, FileExistsError, ImportError, ConnectionError) as error:
        words = _as_typed(str(error)) or type(error).__name__
    except Exception as error:  # a traceback helps nobody who types a command
        own = isinstance(error, OSError) and error.errno is None  # ours are sentences, the system's are not
        words = str(error) if own else error_words(error)
    print(f"error: {words}", file=sys.stderr)
    return 2


AS_TYPED = {"skip_unreadable=True": "--skip-unreadable", "download=True": "--download",
            "lw.list_models() has them all": "`python -m lwcourse list` has them all",
            "lw.list_weights(name) lists": "`python -m lwcourse weights NAME` lists"}


def _as_typed(words: str) -> str:
    """What the package says of Python, in the words of the command line."""
    for python, typed in AS_TYPED.items():
        words = words.replace(python, typed)
    return words


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (`{self.prog} --help` has all options)\n")


def _missing(args: argparse.Namespace, error: ModuleNotFoundError) -> str:
    """Which package a command needs, and which extra of lwcourse brings it."""
    module = (error.name or "").split(".")[0]
    package = {"sklearn": "scikit-learn", "yaml": "pyyaml"}.get(module, module)
    for requirement in map(Requirement, requires("lwcourse")):
        if requirement.name == package:
            extra = next((name for name in environment.EXTRAS if f'"{name}"' in str(requirement.marker)), None)
            source = f"'lwcourse[{extra}]'" if extra else package
            return f"{' '.join([args.command, *getattr(args, 'names', ())])} needs {package}: pip install {source}"
    return str(error)
