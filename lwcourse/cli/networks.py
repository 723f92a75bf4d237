"""Commands that tell about networks: list, show, profile, verify."""
import argparse

import lwcourse as lw
from lwcourse.cli.options import Commands, add_image_options, network_options
from lwcourse.profile import checked_size
from lwcourse.registry import ModelCard, accuracy_words, alias_words
from lwcourse.tables import text_table


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
    size = checked_size(args.input_size)
    print(lw.profile(lw.create_model(args.name, **network_options(args)), size))
    return 0


def verify(args: argparse.Namespace) -> int:
    from lwcourse.verify import report
    text, right = report(args.names)
    print(text)
    return 0 if right else 1


def add_commands(command: Commands) -> None:
    sub = command("list", list_networks, "every network: names, chapter, counted and published figures")
    sub.add_argument("--family")
    sub = command("show", show, "one network's card")
    sub.add_argument("name")
    sub = command("profile", show_profile, "what a network costs, layer by layer")
    sub.add_argument("name")
    add_image_options(sub)
    sub = command("verify", verify, "compare networks with their cards and references; fails if one differs")
    sub.add_argument("names", nargs="*", metavar="NAME")
