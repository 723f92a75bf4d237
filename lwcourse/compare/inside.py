"""What differs inside a layer that is given the same: its settings, its kind, what its class adds."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.compare.formula import ACTIVATIONS, NONE, OVER_CLASSES, close
from lwcourse.compare.rows import Row

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm)
SETTINGS = {  # attribute -> its name in a sentence, in the order of mention
    "kernel_size": "kernel size", "stride": "stride", "padding": "padding", "dilation": "dilation",
    "groups": "groups", "in_channels": "input channels", "out_channels": "output channels",
    "in_features": "input features", "out_features": "output features", "padding_mode": "padding mode",
    "output_padding": "output padding", "eps": "eps", "num_features": "channels", "num_groups": "groups",
    "num_channels": "channels", "normalized_shape": "normalised shape", "num_parameters": "slopes",
    "num_heads": "heads", "batch_first": "batch_first", "track_running_stats": "running statistics",
}


def _plainly(value: object) -> str:
    if isinstance(value, (tuple, list)):
        if len(set(value)) == 1:
            value = value[0]
        else:
            return "x".join(str(v) for v in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings(mine: nn.Module, reference: nn.Module) -> str:
    """The settings in which two modules of one kind differ: "stride 1, but the reference has stride 2"."""
    ours, theirs = [], []
    for attribute, words in SETTINGS.items():
        if hasattr(mine, attribute) and hasattr(reference, attribute):
            a, b = (_plainly(getattr(m, attribute)) for m in (mine, reference))
            if a != b:
                if attribute == "kernel_size":
                    dims = len(getattr(mine, attribute)) if isinstance(getattr(mine, attribute), tuple) else 2
                    a, b = ("x".join([v] * dims) if v.isdigit() else v for v in (a, b))
                ours.append(f"{words} {a}")
                theirs.append(f"{words} {b}")
    for name, words in (("weight", "scale"), ("bias", "bias")):
        if hasattr(mine, name) and hasattr(reference, name):
            has = [getattr(m, name) is not None for m in (mine, reference)]
            if has[0] != has[1]:
                ours.append(f"a {words}" if has[0] else f"no {words}")
                theirs.append(f"a {words}" if has[1] else f"no {words}")
    return f"{' and '.join(ours)}, but the reference has {' and '.join(theirs)}" if ours else ""


def _not_finite(row: Row, tolerance: float) -> str | None:
    bad = row.mine_call.outputs is not None and not all(torch.isfinite(t).all() for t in row.mine_call.outputs)
    return "your layer gives NaN or infinity, the reference's does not" if bad else None


def other_norm(row: Row, tolerance: float) -> str | None:
    """A norm of another kind, before the settings that both kinds have."""
    kinds = [next((k for k in NORMS if isinstance(layer.module, k)), None) for layer in (row.mine, row.reference)]
    if None in kinds or kinds[0] is kinds[1]:
        return None
    names = [type(layer.module).__name__ for layer in (row.mine, row.reference)]
    return f"a {names[0]}, but the reference has a {names[1]}"


def _other_settings(row: Row, tolerance: float) -> str | None:
    return settings(row.mine.module, row.reference.module) or None


def _pads_like_tensorflow(row: Row, tolerance: float) -> str | None:
    """TensorFlow's "same" pads the right and the lower side more, where the total is odd."""
    for who, other, layer, call in (("your layer", "the reference's", row.reference, row.mine_call),
                                    ("the reference's layer", "yours", row.mine, row.reference_call)):
        conv = layer.module
        if not isinstance(conv, nn.Conv2d) or not call.inputs or not call.outputs or call.inputs[0].dim() != 4:
            continue
        x, pads = call.inputs[0], []
        for side, size in enumerate(x.shape[-2:]):
            stride, span = conv.stride[side], conv.dilation[side] * (conv.kernel_size[side] - 1) + 1
            total = max(0, (-(-size // stride) - 1) * stride + span - size)
            pads = [total // 2, total - total // 2] + pads
        if pads[0] == pads[1] and pads[2] == pads[3]:
            continue
        weight, bias = (None if t is None else t.detach().double().cpu() for t in (conv.weight, conv.bias))
        made = F.conv2d(F.pad(x, pads), weight, bias, conv.stride, 0, conv.dilation, conv.groups)
        if close(made, call.outputs[0], tolerance):
            return f"{who} pads as TensorFlow's \"same\" does, more on the right and below, and {other} does not"
    return None


def batch_statistics(row: Row, tolerance: float) -> str | None:
    if not row.mine.tensors.get("running_mean") or not row.mine_call.inputs or not row.mine_call.outputs:
        return None
    x = row.mine_call.inputs[0]
    weight, bias = (row.mine.tensor(r).detach().double().cpu() if r in row.mine.tensors else None
                    for r in ("weight", "bias"))
    if x[:, :1].numel() < 2:
        return None
    made = F.batch_norm(x, None, None, weight, bias, training=True, eps=getattr(row.mine.module, "eps", 1e-5))
    if close(made, row.mine_call.outputs[0], tolerance):
        return "your layer normalises by the batch's own mean and variance in eval mode, not by the running ones"
    return None


def _activation_inside(row: Row, tolerance: float) -> str | None:
    """A layer that applies an activation itself, where its partner applies none or another."""
    if not row.mine_call.outputs or not row.reference_call.outputs:
        return None
    mine, reference = row.mine_call.outputs[0], row.reference_call.outputs[0]
    if mine.shape != reference.shape:
        return None
    names = [name for name in ACTIVATIONS if name not in OVER_CLASSES and name != NONE]
    plain = row.reference_call.plain or row.mine_call.plain
    if plain:
        found = [next((n for n in (NONE, *names) if close(ACTIVATIONS[n][0](plain[0]), t, tolerance)), None)
                 for t in (mine, reference)]
        if None not in found:
            return f"{found[0]} inside it, but the reference has {found[1]} there"
    for name in names:
        function = ACTIVATIONS[name][0]
        if close(function(mine), reference, tolerance):
            return f"no activation inside it, but the reference's layer applies {name}"
        if close(function(reference), mine, tolerance):
            return f"{name} inside it, but the reference's layer applies no activation"
    return None
IN_A_LAYER: tuple[Callable[[Row, float], str | None], ...] = (
    _not_finite, other_norm, _pads_like_tensorflow, _other_settings, batch_statistics, _activation_inside)
