"""The command that measures how fast training images are made: benchmark-input."""
import argparse

from lwcourse.cli.options import Commands, add_timing_options


def benchmark_input(args: argparse.Namespace) -> int:
    from lwcourse.benchmarks.input import report
    print(report(images=args.images, rounds=args.rounds, batch_size=args.batch_size, threads=args.threads))
    return 0


def add_commands(command: Commands) -> None:
    sub = command("benchmark-input", benchmark_input,
                  "time batches in memory against torchvision's transforms, and a step of fit against a plain loop")
    sub.add_argument("--images", type=int, default=5000)
    sub.add_argument("--batch-size", type=int, default=128)
    add_timing_options(sub, rounds=5)
