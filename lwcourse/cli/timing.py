"""Commands that measure: latency, benchmark, benchmark-adder."""
import argparse

import torch

import lwcourse as lw
from lwcourse.cli.options import Commands, add_image_options, add_timing_options, network_options
from lwcourse.profile import checked_size
from lwcourse.running import check_threads, whole_number


def latency(args: argparse.Namespace) -> int:
    device, size = lw.pick_device(args.device), checked_size(args.input_size)
    batch, rounds = whole_number("batch", args.batch, 1), whole_number("rounds", args.rounds, 2)
    if args.threads is not None:
        check_threads(args.threads)
    networks = {name: lw.create_model(name, **network_options(args)).to(device) for name in args.names}
    x = torch.randn(batch, *size, device=device)
    print(lw.measure_latency(networks, x, rounds=rounds, threads=args.threads))
    return 0


def benchmark(args: argparse.Namespace) -> int:
    from lwcourse.benchmarks.networks import keep_memory, report
    keep_memory()
    text, within = report(args.names, batches=args.batches, rounds=args.rounds, seconds=args.seconds,
                          threads=args.threads)
    print(text)
    return 0 if within else 1


def benchmark_adder(args: argparse.Namespace) -> int:
    from lwcourse.benchmarks.adder import report
    print(report(rounds=args.rounds, threads=args.threads))
    return 0


def add_commands(command: Commands) -> None:
    sub = command("latency", latency, "time networks against one another on this machine")
    sub.add_argument("names", nargs="+", metavar="NAME")
    add_image_options(sub)
    add_timing_options(sub, rounds=20)
    sub.add_argument("--batch", type=int, default=1)
    sub.add_argument("--device")
    sub = command("benchmark", benchmark, "time networks against the packages they equal; fails past a ratio of 1.05")
    sub.add_argument("names", nargs="*", metavar="NAME")
    sub.add_argument("--batches", type=int, nargs="+", default=[1, 16], metavar="N")
    sub.add_argument("--seconds", type=float, default=20.0, help="about as long for a network, layout and batch")
    add_timing_options(sub, rounds=40)
    sub = command("benchmark-adder", benchmark_adder, "time the adder convolution against its textbook form and conv2d")
    add_timing_options(sub, rounds=3)
