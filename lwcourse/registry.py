"""Names, cards and factories of every network in the course."""
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Figures of one further configuration of a network, e.g. `{"width": 0.5}`.

    `published_*` are the paper's, in millions and per cent, None where it is silent;
    `counted_*` are exact, counted by `lwcourse.profile`, and tested; `counted_adds` are the additions of
    layers that do not multiply, such as AdderNet's.
    """
    arguments: Mapping[str, object]
    published_params_m: float | None = None
    published_macs_m: float | None = None
    published_top1: float | None = None
    counted_params: int
    counted_macs: int
    counted_adds: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the literature says of a network beside what our code counts.

    Figures are for the factory's default arguments at `input_size` (C, H, W).
    Published accuracy is ImageNet-1k top-1 in per cent, as printed in `table`; it is never ours.
    `chapter` is the number of the notebook that teaches the network, `smallest` the side in pixels of the
    smallest image that it takes.
    """
    family: str
    paper: str
    arxiv: str
    year: int
    chapter: str
    table: str
    reference: str
    published_params_m: float | None = None
    published_macs_m: float | None = None
    published_top1: float | None = None
    counted_params: int
    counted_macs: int
    counted_adds: int = 0
    input_size: tuple[int, int, int] = (3, 224, 224)
    smallest: int = 32
    note: str = ""
    variants: tuple[Variant, ...] = ()
    name: str = field(default="", compare=False)
    aliases: tuple[str, ...] = field(default=(), compare=False)

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"


_factories: dict[str, Callable[..., nn.Module]] = {}
_cards: dict[str, ModelCard] = {}
_aliases: dict[str, str] = {}


def register(card: ModelCard, *, aliases: tuple[str, ...] = ()) -> Callable:
    """Decorator that files a factory under its own name, with its card.

    Raises ValueError when the name or an alias is taken already.
    """
    def decorate(factory: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        name = factory.__name__
        for label in (name, *aliases):
            if label in _factories or label in _aliases:
                raise ValueError(f"the name {label!r} is registered already, for {_aliases.get(label, label)!r}")
        _factories[name] = factory
        _cards[name] = replace(card, name=name, aliases=aliases)
        _aliases.update(dict.fromkeys(aliases, name))
        return factory
    return decorate


def aliases() -> Mapping[str, str]:
    """The other names that networks answer to, e.g. those of light_cnns: `{"mbv2": "mobilenet_v2", ...}`."""
    return MappingProxyType(_aliases)


def resolve(name: str) -> str:
    """The registered name for a name or alias. Raises ValueError, with close matches, when there is none."""
    if not isinstance(name, str):
        raise TypeError(f"a model name is a string such as 'mobilenet_v2', got {type(name).__name__}")
    if name in _factories:
        return name
    if name in _aliases:
        return _aliases[name]
    close = get_close_matches(name.lower(), [*_factories, *_aliases], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "lw.list_models() has them all"
    raise ValueError(f"there is no model {name!r}; {hint}")


def factory(name: str) -> Callable[..., nn.Module]:
    """The function that builds a network, by name or alias."""
    return _factories[resolve(name)]


def list_models(family: str | None = None) -> list[str]:
    """Registered names, sorted; only those of one `family` (e.g. "MobileNetV3") when given.

    Raises ValueError when no network belongs to `family`.
    """
    if family is None:
        return sorted(_factories)
    names = sorted(name for name, card in _cards.items() if card.family == family)
    if not names:
        families = sorted({card.family for card in _cards.values()})
        raise ValueError(f"there is no family {family!r}; there are {', '.join(families)}")
    return names


def create_model(name: str, num_classes: int = 1000, in_channels: int = 3, **options) -> nn.Module:
    """Build a network by name or alias, untrained, in training mode.

    `options` are the factory's own keyword arguments, such as `width`; an unknown one
    raises TypeError, an unknown name ValueError.
    """
    return factory(name)(num_classes, in_channels, **options)


def model_card(name: str) -> ModelCard:
    """The card of a network, by name or alias."""
    return _cards[resolve(name)]
