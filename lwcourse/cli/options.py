"""Options that several commands share, and what they mean."""
import argparse
from collections.abc import Callable

Commands = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]  # name, function, help


def add_image_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--input-size", type=int, nargs=3, default=[3, 224, 224], metavar=("C", "H", "W"))
    sub.add_argument("--width", type=float, help="channel multiplier")


def add_timing_options(sub: argparse.ArgumentParser, rounds: int) -> None:
    sub.add_argument("--rounds", type=int, default=rounds)
    sub.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own)")


def network_options(args: argparse.Namespace) -> dict:
    return {"in_channels": args.input_size[0]} | ({"width": args.width} if args.width is not None else {})
