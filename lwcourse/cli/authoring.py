"""Commands of those who write the course, in a checkout: figures, exercises, notebooks, readme, address."""
import argparse

from lwcourse.cli.options import Commands


def figures(args: argparse.Namespace) -> int:
    from lwcourse.authoring import find_root
    from lwcourse.authoring.drawings import draw_all
    changed = draw_all(find_root() / "figures")
    print(f"{len(changed)} drawings changed", *changed, sep="\n  ")
    return 0


def exercises(args: argparse.Namespace) -> int:
    from lwcourse.authoring import find_root, make_exercises
    changed = make_exercises(find_root(), check=args.check)
    print(f"{len(changed)} exercise notebooks {'are out of date' if args.check else 'changed'}", *changed, sep="\n  ")
    return 1 if args.check and changed else 0


def submissions(args: argparse.Namespace) -> int:
    from lwcourse.authoring.submissions import mend_submissions
    mended = mend_submissions(args.folder, args.assignment)
    print(f"{len(mended)} submissions needed mending")
    for path, wrong in mended.items():
        print(f"  {path}: {'; '.join(wrong)}")
    return 0


def learn(args: argparse.Namespace) -> int:
    from lwcourse.learned import learn, learned_networks
    for name in args.names or learned_networks():
        record = learn(name)
        print(f"{name}: test {record['metric']} {record['score']:.3f}")
    return 0


def notebooks(args: argparse.Namespace) -> int:
    from lwcourse.authoring import find_root, run_notebooks
    from lwcourse.authoring.notebooks import IDLE, busy_share
    folder = find_root() / "notebooks"
    paths = [path for path in sorted(folder.glob("*.ipynb"))
             if not args.chapters or path.name[:2] in args.chapters or path.stem in args.chapters]
    if not paths:
        raise ValueError(f"no chapter in {folder} matches {' '.join(args.chapters)}")
    if not (args.check or args.busy) and (share := busy_share()) > IDLE:
        raise ValueError(f"other work keeps {share:.0%} of the processors busy, so the times stored would be wrong: "
                         f"wait until it is below {IDLE:.0%}, or say --busy, and store them again later with --fresh")
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


def add_commands(command: Commands) -> None:
    command("figures", figures, "draw figures/*.svg anew (in a checkout)")
    sub = command("exercises", exercises, "make exercises/ from solutions/ (in a checkout)")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when one is out of date")
    sub = command("submissions", submissions, "mend copied and deleted cells before nbgrader autograde")
    sub.add_argument("assignment")
    sub.add_argument("folder", nargs="?", default=".", help="nbgrader's course folder (default: this one)")
    sub = command("notebooks", notebooks, "run chapters and store their outputs (in a checkout)")
    sub.add_argument("chapters", nargs="*", metavar="NN")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when an output differs")
    sub.add_argument("--fresh", action="store_true", help="store every output anew")
    sub.add_argument("--busy", action="store_true", help="store times although the machine has other work")
    sub = command("learn", learn, "train the small networks that ship with the chapters (in a checkout)")
    sub.add_argument("names", nargs="*", metavar="NN.name")
    sub = command("readme", readme, "make the tables of README.md from chapters and cards (in a checkout)")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when it is out of date")
    sub = command("address", address, "write the repository's address into badges and set-up cells (in a checkout)")
    sub.add_argument("new", nargs="?", help="a new address, which goes into pyproject.toml too")
    sub.add_argument("--check", action="store_true", help="write nothing; fail when a file disagrees")
