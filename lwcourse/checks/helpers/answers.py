"""What an answer must be, for `expects=` of an exercise, and how values are shown in a message."""
from collections.abc import Callable, Sequence
from decimal import Decimal
from inspect import Parameter, signature
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor, nn

from lwcourse.checks import fail

LONGEST = 80  # characters of a value in a message


def a_function(answer: Any) -> bool:
    """a function (its name, without brackets)"""
    has_weights = isinstance(answer, nn.Module) and any(True for _ in answer.parameters())
    return callable(answer) and not isinstance(answer, type) and not has_weights


def a_builder(answer: Any) -> bool:
    """a function without arguments (its name, without brackets), or a class"""
    return callable(answer) and not isinstance(answer, nn.Module)


def a_number(answer: Any) -> bool:
    """a number"""
    return isinstance(plain(answer), Real) and not isinstance(answer, bool | np.bool_)


def a_module(answer: Any) -> bool:
    """an nn.Module that is built already"""
    return isinstance(answer, nn.Module)


def a_module_class(answer: Any) -> bool:
    """a class that inherits from nn.Module (its name, without brackets)"""
    return isinstance(answer, type) and issubclass(answer, nn.Module)


def plain(value: Any) -> Any:
    """A tensor or array of one element, and a Decimal, as a number of Python, anything else as it is."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 and not value.is_meta else value
    if isinstance(value, np.ndarray | np.generic):
        return value.item() if value.size == 1 else value
    return float(value) if isinstance(value, Decimal) else value


def shown(value: Any) -> str:
    """A value on one short line; of a network, a profile or an array only what it is."""
    if isinstance(value, nn.Module):
        return f"a network of type {type(value).__name__}"
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        return f"{'an' if kind == 'array' else 'a'} {kind} of shape {tuple(value.shape)}"
    if callable(value):
        return f"the {'class' if isinstance(value, type) else 'function'} {getattr(value, '__name__', '')}".strip()
    text = repr(value)
    if "\n" in text or len(text) > LONGEST and not isinstance(value, str | dict | list | tuple | set):
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 4]} ..."


def refuse_other_order(answer: Callable, names: Sequence[str]) -> None:
    """Refuse a class or function that has the sheet's parameters, in another order than the sheet's."""
    try:
        given = [name for name, one in signature(answer).parameters.items()
                 if one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):  # written in C
        return
    own = [name for name in given if name in names]
    if own != [name for name in names if name in own]:
        fail(f"the arguments of {getattr(answer, '__name__', 'your answer')} come in another order: the check calls it "
             f"with ({', '.join(names)}), in this order, and yours takes ({', '.join(given)})")
