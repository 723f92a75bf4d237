"""The command line: `python -m lwcourse COMMAND`; `--help` lists the commands."""
import argparse
import importlib
import sys
from importlib.metadata import PackageNotFoundError, requires, version

import torch
from packaging.requirements import Requirement

import lwcourse as lw
from lwcourse.registry import ModelCard, accuracy_words, alias_words
from lwcourse.tables import counted, text_table


def millions(count: float | None, decimals: int = 2) -> str:
    """4231976 -> '4.23'; figures that a paper does not give are a dash."""
    return "-" if count is None else f"{count / 1e6:.{decimals}f}"


def plain(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def list_networks(args: argparse.Namespace) -> int:
    rows = [("network", "aliases", "chapter", "paper", "params (M)", "MACs (M)", "published top-1 or mIoU (%)")]
    for name in lw.list_models(args.family):
        card = lw.model_card(name)
        rows.append((name, ", ".join(alias_words(card)), card.chapter, f"{card.arxiv} ({card.year})",
                     millions(card.counted_params), millions(card.counted_macs, 1), accuracy_words(card, "-")))
    print(text_table(rows, left=4))
    return 0


def show(args: argparse.Namespace) -> int:
    card = lw.model_card(args.name)
    print(" = ".join([card.name, *alias_words(card)]), f"{card.paper} ({card.year})", card.url, sep="\n")
    print(f"chapter {card.chapter}; equal to {card.reference}; published figures: {card.table}\n")
    print(card_table(card))
    return 0


def card_table(card: ModelCard) -> str:
    """Published and counted figures of every variant, and the notes that explain where they differ."""
    dense = card.task == "segmentation"
    rows = [("variant", "params (M): published", "counted", "MACs (M): published", "counted",
             f"{'mIoU' if dense else 'top-1'} (%): published")]
    notes = []
    for figures in (card, *card.variants):
        arguments = getattr(figures, "arguments", {})
        label = ", ".join(f"{key}={value}" for key, value in arguments.items()) or "default"
        rows.append((label, plain(figures.published_params_m), millions(figures.counted_params),
                     plain(figures.published_macs_m), millions(figures.counted_macs),
                     plain(figures.published_miou if dense else figures.published_top1)))
        if figures.note:
            notes.append(f"{label}: {figures.note}")
    return "\n".join([text_table(rows), *notes])


def show_profile(args: argparse.Namespace) -> int:
    print(lw.profile(lw.create_model(args.name, **network_options(args)), tuple(args.input_size)))
    return 0


def latency(args: argparse.Namespace) -> int:
    device = lw.pick_device(args.device)
    networks = {name: lw.create_model(name, **network_options(args)).to(device) for name in args.names}
    x = torch.randn(args.batch, *args.input_size, device=device)
    print(lw.measure_latency(networks, x, rounds=args.rounds, threads=args.threads))
    return 0


def network_options(args: argparse.Namespace) -> dict:
    return {"in_channels": args.input_size[0]} | ({"width": args.width} if args.width is not None else {})


def benchmark(args: argparse.Namespace) -> int:
    from lwcourse.benchmark import keep_memory, report
    keep_memory()
    text, within = report(args.names, batches=args.batches, rounds=args.rounds, seconds=args.seconds,
                          threads=args.threads)
    print(text)
    return 0 if within else 1


def benchmark_adder(args: argparse.Namespace) -> int:
    from lwcourse.benchmark_adder import report
    print(report(rounds=args.rounds, threads=args.threads))
    return 0


def verify(args: argparse.Namespace) -> int:
    from lwcourse.verify import report
    text, right = report(args.names)
    print(text)
    return 0 if right else 1


def figures(args: argparse.Namespace) -> int:
    from lwcourse.authoring import find_root
    from lwcourse.drawings import draw_all
    changed = draw_all(find_root() / "figures")
    print(f"{len(changed)} drawings changed", *changed, sep="\n  ")
    return 0


def exercises(args: argparse.Namespace) -> int:
    from lwcourse.authoring import find_root, make_exercises
    changed = make_exercises(find_root(), check=args.check)
    print(f"{len(changed)} exercise notebooks {'are out of date' if args.check else 'changed'}", *changed, sep="\n  ")
    return 1 if args.check and changed else 0


def notebooks(args: argparse.Namespace) -> int:
    from lwcourse.authoring import find_root, run_notebooks
    folder = find_root() / "notebooks"
    paths = [path for path in sorted(folder.glob("*.ipynb"))
             if not args.chapters or path.name[:2] in args.chapters or path.stem in args.chapters]
    if not paths:
        raise ValueError(f"no chapter in {folder} matches {' '.join(args.chapters)}")
    stale = False
    for path in paths:
        (run,) = run_notebooks([path], check=args.check, fresh=args.fresh)
        stale |= run.changed
        print(f"{path.name}: {run.seconds:.0f} s, {len(run.changed_cells)} cells with a new output", flush=True)
    return 1 if args.check and stale else 0


def address(args: argparse.Namespace) -> int:
    from lwcourse.authoring import check_address, find_root, read_address, set_address
    root = find_root()
    if args.check:
        wrong = check_address(root)
        print(f"{len(wrong)} files disagree with {read_address(root)}", *wrong, sep="\n  ")
        return 1 if wrong else 0
    changed = set_address(root, args.new)
    print(f"{len(changed)} files now say {read_address(root)}", *changed, sep="\n  ")
    return 0


def readme(args: argparse.Namespace) -> int:
    from lwcourse.authoring import find_root, update_readme
    changed = update_readme(find_root(), check=args.check)
    print("README.md " + ("is out of date" if changed and args.check else "changed" if changed else "is up to date"))
    return 1 if args.check and changed else 0


def check_env(args: argparse.Namespace) -> int:
    """Versions of what the package and its extras need, and the device; fails when the course cannot run."""
    print(f"Python {sys.version.split()[0]}, {counted(torch.get_num_threads(), 'thread')}, device {lw.pick_device()}")
    lacking = []
    for requirement in map(Requirement, requires("lwcourse")):
        marker = str(requirement.marker or "")
        extra = next((name for name in ("course", "fast", "dev") if f'extra == "{name}"' in marker), "always needed")
        if requirement.name == "lwcourse":  # dev asks for course
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        fits = found != "missing" and requirement.specifier.contains(found, prereleases=True)
        print(f"  {requirement.name} {found}{'' if fits else f', but wanted {requirement.specifier}'} ({extra})")
        if not fits and extra in ("always needed", "course"):
            lacking.append(requirement.name)
    if lacking:
        print(f"the chapters need {', '.join(lacking)}; install with: pip install -e '.[course]'")
        return 1
    importlib.import_module("torchvision")  # one that does not fit torch fails here
    print("the chapters can run")
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lwcourse", description="Lightweight vision networks of the course.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, words: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=words, description=words)
        sub.set_defaults(function=function)
        return sub

    def image_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--input-size", type=int, nargs=3, default=[3, 224, 224], metavar=("C", "H", "W"))
        sub.add_argument("--width", type=float, help="channel multiplier")

    def timing_options(sub: argparse.ArgumentParser, rounds: int) -> None:
        sub.add_argument("--rounds", type=int, default=rounds)
        sub.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own)")

    sub = command("list", list_networks, "every network: names, chapter, counted and published figures")
    sub.add_argument("--family")
    sub = command("show", show, "one network's card")
    sub.add_argument("name")
    sub = command("profile", show_profile, "what a network costs, layer by layer")
    sub.add_argument("name")
    image_options(sub)
    sub = command("latency", latency, "time networks against one another on this machine")
    sub.add_argument("names", nargs="+", metavar="NAME")
    image_options(sub)
    timing_options(sub, rounds=20)
    sub.add_argument("--batch", type=int, default=1)
    sub.add_argument("--device")
    sub = command("benchmark", benchmark, "time networks against the packages they equal; fails past a ratio of 1.05")
    sub.add_argument("names", nargs="*", metavar="NAME")
    sub.add_argument("--batches", type=int, nargs="+", default=[1, 16], metavar="N")
    sub.add_argument("--seconds", type=float, default=20.0, help="about as long for a network, layout and batch")
    timing_options(sub, rounds=40)
    sub = command("benchmark-adder", benchmark_adder, "time the adder convolution against its textbook form and conv2d")
    timing_options(sub, rounds=3)
    sub = command("verify", verify, "compare networks with their cards and references; fails if one differs")
    sub.add_argument("names", nargs="*", metavar="NAME")
    command("check-env", check_env, "versions of everything the course uses, and the device")
    command("figures", figures, "draw figures/*.svg anew (in a checkout)")
    sub = command("exercises", exercises, "make exercises/ from solutions/ (in a checkout)")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when one is out of date")
    sub = command("notebooks", notebooks, "run chapters and store their outputs (in a checkout)")
    sub.add_argument("chapters", nargs="*", metavar="NN")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when an output differs")
    sub.add_argument("--fresh", action="store_true", help="store every output anew")
    sub = command("readme", readme, "make the tables of README.md from chapters and cards (in a checkout)")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when it is out of date")
    sub = command("address", address, "write the repository's address into badges and set-up cells (in a checkout)")
    sub.add_argument("new", nargs="?", help="a new address, which goes into pyproject.toml too")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when a file disagrees")
    return top


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        return args.function(args)
    except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
