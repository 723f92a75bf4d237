"""00.7: the most accurate network under two budgets."""
import math
from collections.abc import Callable, Iterable
from typing import Any

import lwcourse as lw
from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, shown
from lwcourse.registry import ModelCard

Choice = Callable[[list[str], float, float], Any]
BUDGETS = ((5_450_000, 250_000_000), (3_450_000, 400_000_000), (6_000_000, 350_000_000), (14_000_000, 1_600_000_000),
           (2_542_856, 56_510_400), (100_000, 1_000_000_000))  # the fifth: exactly what MobileNetV3 small has


@exercise("00.7", title="Under two budgets", minutes=10, difficulty="medium", expects=a_function)
def under_two_budgets(answer: Choice) -> str:
    """`answer(names, max_params, max_macs)`: of `names`, the most accurate network that fits, or None."""
    names = [name for name in lw.list_models() if lw.model_card(name).task == "classification"
             and not lw.model_card(name).counted_adds]
    got = [answer(list(names), *budget) for budget in BUDGETS]
    right = [_choose(names, *budget) for budget in BUDGETS]
    if got == right:
        return ", ".join(f"{name} for {params / 1e6:.1f} M and {macs / 1e6:.0f} M" for name, (params, macs)
                         in list(zip(right, BUDGETS, strict=True))[:3]) + "."
    hint = "a network fits when both of its counts are at most the budgets; of those that fit, take the most accurate"
    for one in got:
        if one is not None and not isinstance(one, str):
            fail(f"your function gives {shown(one)}; the name of a network is asked for, or None", hint)
        if one is not None and one not in names:
            fail(f"your function gives {one!r}, which is none of the names that it was given", hint)
    for reason, mistaken in MISTAKES.items():
        if got == [mistaken(names, *budget) for budget in BUDGETS]:
            fail(reason, hint)
    for one, expected, (params, macs) in zip(got, right, BUDGETS, strict=True):
        if one == expected:
            continue
        call = f"choose(names, {params:,}, {macs:,}) gives {one!r}"
        if one is None:
            fail(f"{call}, but there are networks that fit", hint)
        card = lw.model_card(one)
        if card.counted_params > params or card.counted_macs > macs:
            fail(f"{call}, which has {card.counted_params:,} parameters and {card.counted_macs:,} MACs: too many", hint)
        if card.published_top1 is None:
            fail(f"{call}, whose accuracy nobody has published", hint)
        fail(f"{call}, with {card.published_top1} %; another one that fits is more accurate", hint)


def _choose(names: Iterable[str], max_params: float, max_macs: float,
            params: Callable[[ModelCard], float] = lambda card: card.counted_params,
            macs: Callable[[ModelCard], float] = lambda card: card.counted_macs, strict: bool = False,
            best: Callable[[ModelCard], float] = lambda card: card.published_top1) -> str | None:
    """The first of the best among the cards that fit."""
    cards = [card for card in map(lw.model_card, names) if card.published_top1 is not None]
    fitting = [card for card in cards if (params(card) < max_params and macs(card) < max_macs if strict else
                                          params(card) <= max_params and macs(card) <= max_macs)]
    return max(fitting, key=best).name if fitting else None


def _rule(**other: Any) -> Choice:
    return lambda names, max_params, max_macs: _choose(names, max_params, max_macs, **other)


MISTAKES: dict[str, Choice] = {
    "the budget of parameters makes no difference to your choice": _rule(params=lambda card: 0),
    "the budget of MACs makes no difference to your choice": _rule(macs=lambda card: 0),
    "neither budget makes a difference to your choice": _rule(params=lambda card: 0, macs=lambda card: 0),
    "you take the network with the fewest MACs that fits; the most accurate one is asked for":
        _rule(best=lambda card: -card.counted_macs),
    "you take the network with the fewest parameters that fits; the most accurate one is asked for":
        _rule(best=lambda card: -card.counted_params),
    "you take the largest network that fits; a larger one is not always more accurate":
        _rule(best=lambda card: card.counted_params),
    "you take the network with the most MACs that fits; more work does not always give more accuracy":
        _rule(best=lambda card: card.counted_macs),
    "you take the least accurate network that fits": _rule(best=lambda card: -card.published_top1),
    "you compare the published counts, which are rounded or counted otherwise; take counted_params and counted_macs":
        _rule(params=lambda card: 1e6 * (card.published_params_m or math.inf),
              macs=lambda card: 1e6 * (card.published_macs_m or math.inf)),
    "a network that meets the budget exactly fits too: `at most` is <=": _rule(strict=True),
}
