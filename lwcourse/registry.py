"""Names, cards and factories of every network in the course."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial, wraps
from inspect import signature
from types import MappingProxyType

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Figures of one further configuration of a network, e.g. `{"width": 0.5}`.

    `published_*` are the paper's, in millions and per cent, None where it is silent, or where the task is another;
    `counted_*` are exact, counted by `lwcourse.profile`, and tested; `counted_adds` are the additions of
    layers that do not multiply, such as AdderNet's.
    """
    arguments: Mapping[str, object]
    published_params_m: float | None = None
    published_macs_m: float | None = None
    published_top1: float | None = None
    published_miou: float | None = None
    counted_params: int
    counted_macs: int
    counted_adds: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the literature says of a network beside what our code counts.

    Figures are for the factory's default arguments at `input_size` (C, H, W).
    `task` is "classification", for logits (N, classes), or "segmentation", for logits (N, classes, H, W) of every
    pixel. Published accuracy is ImageNet-1k top-1 in per cent, or for segmentation the mean intersection over union
    (mIoU) in per cent on the data that `table` names; it stands in `table` as printed, and is never ours.
    `chapter` is the number of the notebook that teaches the network, `smallest` the side in pixels of the
    smallest image that it takes, `widths` the only channel multipliers that the network has, when it does not
    take any. `aliases` maps each other name to the arguments that it presets, mostly none.
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
    published_miou: float | None = None
    counted_params: int
    counted_macs: int
    counted_adds: int = 0
    task: str = "classification"
    input_size: tuple[int, int, int] = (3, 224, 224)
    smallest: int = 32
    widths: tuple[float, ...] = ()
    note: str = ""
    variants: tuple[Variant, ...] = ()
    name: str = field(default="", compare=False)
    aliases: Mapping[str, Mapping[str, object]] = field(default_factory=dict, compare=False)

    @property
    def url(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"


_factories: dict[str, Callable[..., nn.Module]] = {}
_presets: dict[str, Callable[..., nn.Module]] = {}  # factories of the aliases that preset arguments
_cards: dict[str, ModelCard] = {}
_aliases: dict[str, str] = {}


def register(card: ModelCard, *, aliases: Sequence[str] | Mapping[str, Mapping[str, object]] = ()) -> Callable:
    """Decorator that files a factory under its own name, with its card.

    `aliases` are further names; a mapping gives each the keyword arguments that it presets, as in
    `{"shufflenetv1": {"width": 2.0, "groups": 3}}`. Raises ValueError when the name or an alias is taken already.
    """
    presets = dict(aliases) if isinstance(aliases, Mapping) else {alias: {} for alias in aliases}

    def decorate(factory: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        name = factory.__name__
        for label in (name, *presets):
            if label in _factories or label in _aliases:
                raise ValueError(f"the name {label!r} is registered already, for {_aliases.get(label, label)!r}")
        factory = _remembering(factory)
        _factories[name] = factory
        _cards[name] = replace(card, name=name, aliases=presets)
        for alias, arguments in presets.items():
            _aliases[alias] = name
            if arguments:
                _presets[alias] = partial(factory, **arguments)
                _presets[alias].__name__, _presets[alias].__doc__ = alias, factory.__doc__
        return factory
    return decorate


def _remembering(factory: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The factory, whose networks know by which name and arguments they were built: `lw.save` writes them down."""
    parameters = signature(factory)

    @wraps(factory)
    def build(*args, **kwargs) -> nn.Module:
        network = factory(*args, **kwargs)
        network.built_by = (factory.__name__, dict(parameters.bind(*args, **kwargs).arguments))
        return network
    return build


def aliases() -> Mapping[str, str]:
    """The other names that networks answer to, e.g. those of light_cnns: `{"mbv2": "mobilenet_v2", ...}`."""
    return MappingProxyType(_aliases)


def alias_words(card: ModelCard) -> list[str]:
    """A card's aliases for people to read: "mbv2", or "shufflenetv1 (width=2.0, groups=3)"."""
    return [f"{alias} ({', '.join(f'{key}={value}' for key, value in arguments.items())})" if arguments else alias
            for alias, arguments in card.aliases.items()]


def accuracy_words(figures: ModelCard | Variant, missing: str) -> str:
    """Published accuracy for people to read: "72.0" is a top-1, "60.3 mIoU" says what it is."""
    if figures.published_miou is not None:
        return f"{figures.published_miou:.1f} mIoU"
    return missing if figures.published_top1 is None else f"{figures.published_top1:.1f}"


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
    """The function that builds a network, by name or alias; an alias may preset some of its arguments."""
    return _presets[name] if name in _presets else _factories[resolve(name)]


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


def create_model(name: str, num_classes: int | None = None, in_channels: int = 3, *, weights: str | None = None,
                 **options) -> nn.Module:
    """Build a network by name or alias, in training mode: untrained, or with trained `weights`.

    `weights` is one of the names that `lw.list_weights(name)` gives, such as "imagenet", "torchvision" or "timm:in1k";
    `lw.weights_of(model)` then has the preparation of images and the names of classes. Raises ValueError for weights
    that there are not, ImportError where the package is missing that they come with, ConnectionError where they
    cannot be fetched.

    `num_classes` is by default the factory's: 1000, ImageNet's, or those that a segmentation network was made for.
    `options` are the factory's own keyword arguments, such as `width`, and win over those that an alias
    presets; an unknown one raises TypeError, an unknown name ValueError.
    """
    if weights is not None:
        from lwcourse.weights import create_trained  # which needs the registry
        return create_trained(name, weights, num_classes, in_channels, **options)
    classes = () if num_classes is None else (num_classes,)
    return factory(name)(*classes, in_channels=in_channels, **options)


def model_card(name: str) -> ModelCard:
    """The card of a network, by name or alias; its figures never include what an alias presets."""
    return _cards[resolve(name)]
