"""Commands about trained networks: weights, predict."""
import argparse
import sys
from pathlib import Path

import lwcourse as lw
from lwcourse.cli.options import Commands
from lwcourse.tables import text_table


def list_weights(args: argparse.Namespace) -> int:
    rows = [("network", "weights", "options", "size", "top-1 (%)", "licence", "source")]
    for name in [args.name] if args.name else lw.list_models():
        for one in lw.list_weights(name):
            options = ", ".join(f"{key}={value}" for key, value in one.arguments.items())
            rows.append((one.network, one.name, options, str(one.size),
                         "-" if one.top1 is None else f"{one.top1:.1f}", one.licence, one.source))
    print(text_table(rows, left=len(rows[0])))
    return 0


def predict(args: argparse.Namespace) -> int:
    import torch

    from lwcourse.data.base import DataCorrupt, open_image

    if args.top < 1:
        raise ValueError(f"--top must be a whole number of at least 1, got {args.top}")
    for path in map(Path, args.images):
        if path.is_dir():
            raise ValueError(f"{path} is a folder; name its pictures")
        if not path.is_file():
            raise FileNotFoundError(f"there is no picture {path}")
    network = trained_network(args.model, args.weights).eval()
    weights = lw.weights_of(network)
    if not weights.classes:
        raise ValueError(f"the weights {weights.name} of {weights.network} have no names of classes")
    prepare = weights.transform()
    unreadable = 0
    for path in args.images:
        try:
            image = open_image(path)
        except DataCorrupt as error:
            print(f"error: {error}", file=sys.stderr)
            unreadable += 1
            continue
        with torch.no_grad():
            logits = network(prepare(image)[None])
        if logits.ndim != 2:
            raise ValueError(f"{args.model} gives each pixel a class; predict names what is on a whole picture")
        shares = logits.softmax(1)[0]
        best = shares.topk(min(args.top, len(shares)))
        print(f"{path}: " + ", ".join(f"{weights.classes[k]} {share:.3f}"
                                      for share, k in zip(best.values.tolist(), best.indices.tolist(), strict=True)))
    return 2 if unreadable else 0


def trained_network(model: str, weights: str | None):
    """A network by its name, with the weights named or the first that there are, or from a run's folder, its best.pt,
    or a file of lw.save."""
    path = Path(model)
    if path.suffix in (".safetensors", ".pt") or path.is_dir():
        if weights is not None:
            raise ValueError(f"{model} has its own weights; leave out --weights")
        return lw.load(model)
    if path.is_file():
        raise ValueError(f"{model} is a file, and no network: weights lie in a file of lw.save (.safetensors) or in a "
                         "run's best.pt")
    there = lw.list_weights(model)
    if not there:
        raise ValueError(f"there are no trained weights for {model}; train it, and give the folder of the run")
    for one in there:
        if weights in (None, one.name, one.name.partition(":")[0]):
            return lw.create_model(model, weights=one.name, **one.arguments)
    return lw.create_model(model, weights=weights)  # which tells what there is


def add_commands(command: Commands) -> None:
    sub = command("weights", list_weights, "the trained weights that there are for a network, or for all")
    sub.add_argument("name", nargs="?")
    sub = command("predict", predict, "say what is on photographs")
    sub.add_argument("model", metavar="RUN|MODEL", help="a run's folder, a file of lw.save, or a network's name")
    sub.add_argument("images", nargs="+", metavar="IMAGE")
    sub.add_argument("--weights", help="one of those that `weights NAME` lists (default: the first)")
    sub.add_argument("--top", type=int, default=5, help="how many classes to name (default 5)")
