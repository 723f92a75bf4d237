"""Exercise 17.1, once 01.4: layers that wait for memory."""
from collections.abc import Mapping
from typing import Any

from lwcourse.checks import CheckFailed, exercise, fail
from lwcourse.checks.helpers import compare_parts, refuse_missing_keys, shown
from lwcourse.profile import LayerProfile, Profile, profile
from lwcourse.registry import create_model

KEYS = ("hungriest", "below the ridge, batch 1", "below the ridge, batch 16", "depthwise MACs", "depthwise bytes")
RIDGE = 6.0  # MACs per byte, of an imagined machine
ROUNDED = (1, 2, 3)  # decimals; more of them are near enough to three to be named so


@exercise("17.1", title="Layers that wait for memory", minutes=20, difficulty="medium", expects=dict)
def memory_bound(answer: Mapping[str, Any]) -> str:
    """Counts on MobileNetV2 of width 0.5 at 160 x 160; everything is counted anew here."""
    refuse_missing_keys(answer, KEYS)
    cost = profile(create_model("mobilenet_v2", width=0.5), (3, 160, 160))
    layers = [layer for layer in cost.layers if layer.kind == "Conv2d"]
    right = _report(layers)
    name_is_right, shares, refusals = 1, 1.0, []
    try:
        _check_hungriest(answer["hungriest"], {layer.name: layer for layer in cost.layers}, layers)
    except CheckFailed as refused:
        name_is_right = 0
        refusals.append(refused)
    try:
        compare_parts(answer, right, _report_mistakes(cost, layers, right), tolerance=1e-6)
    except CheckFailed as refused:
        shares = refused.share
        refusals.append(refused)
    if refusals:
        fail(refusals[0].reason, refusals[0].hint, share=(name_is_right + shares * len(right)) / len(KEYS))
    hungriest = min(layers, key=lambda layer: layer.intensity)
    return (f"{hungriest.name} does {hungriest.intensity:.2f} MACs per byte; a larger batch lifts "
            f"{right[KEYS[1]] - right[KEYS[2]]} layers over the ridge.")


def _check_hungriest(name: Any, known: Mapping[str, LayerProfile], layers: list[LayerProfile]) -> None:
    intensities = {layer.name: layer.intensity for layer in layers}
    if isinstance(name, LayerProfile):
        fail("'hungriest' must be the name of a convolution; you give the layer itself", "a layer has a `name`")
    if not isinstance(name, str) or name not in known:
        fail(f"'hungriest' must be the name of a convolution, such as {layers[0].name!r}, got {shown(name)}")
    if name not in intensities:
        fail(f"{name} is of kind {known[name].kind}; asked is a convolution", 'its layer.kind is "Conv2d"')
    if intensities[name] == min(intensities.values()):
        return
    if intensities[name] == max(intensities.values()):
        fail(f"{name} does most MACs per byte, {intensities[name]:.2f}; the hungriest convolution does fewest")
    if name == max(layers, key=lambda layer: layer.traffic_bytes).name:
        fail(f"{name} moves most bytes; asked is the convolution with fewest MACs for each of its bytes",
             "divide, then compare")
    fail(f"{name} does {intensities[name]:.2f} MACs per byte, and another convolution does fewer")


def _intensity(layer: LayerProfile, batch: int, *, maps: int | None = None, weights: int = 1,
               macs: int | None = None) -> float:
    """MACs per byte of a batch; `maps`, `weights` and `macs` say how often each of them counts."""
    moved = (maps or batch) * (layer.input_bytes + layer.output_bytes) + weights * layer.parameter_bytes
    return (macs or batch) * layer.macs / moved if moved else 0.0


def _below(layers: list[LayerProfile], batch: int, **how_often: int) -> int:
    return sum(_intensity(one, batch, **how_often) < RIDGE for one in layers)


def _is_depthwise(layer: LayerProfile) -> bool:
    return ".depthwise." in layer.name


def _share(cost: str, part: list[LayerProfile], whole: list[LayerProfile]) -> float:
    return sum(getattr(one, cost) for one in part) / sum(getattr(one, cost) for one in whole)


def _report(layers: list[LayerProfile]) -> dict[str, float]:
    """The numbers of KEYS[1:]."""
    part = [layer for layer in layers if _is_depthwise(layer)]
    numbers = _below(layers, 1), _below(layers, 16), _share("macs", part, layers), _share("traffic_bytes", part, layers)
    return dict(zip(KEYS[1:], numbers, strict=True))


def _report_mistakes(cost: Profile, layers: list[LayerProfile], right: dict[str, float]) -> dict[str, dict[str, float]]:
    """What each mistake makes of those numbers that it changes."""
    batch_1, batch_16, macs, traffic = KEYS[1:]
    part = [layer for layer in layers if _is_depthwise(layer)]
    rest = [layer for layer in layers if not _is_depthwise(layer)]
    named = [layer for layer in cost.layers if _is_depthwise(layer)]
    pointwise = [layer for layer in layers if any(part in layer.name for part in (".expand.", ".project.", "head."))]
    moving = [layer for layer in cost.layers if layer.traffic_bytes]
    learning = [layer for layer in cost.layers if layer.params]
    multiplying = [layer for layer in cost.layers if layer.macs]
    found = {
        "batch 16 gives your count of batch 1: you multiplied everything by 16. A weight is fetched once for the whole "
        "batch": {batch_16: right[batch_1]},
        "batch 16: the MACs grow with the batch too, not only the bytes": {batch_16: _below(layers, 16, macs=1)},
        "batch 16: inputs and outputs grow with the batch too, not only the MACs": {
            batch_16: _below(layers, 16, maps=1)},
        "you count the layers above the ridge; asked are those below it": {
            key: len(layers) - right[key] for key in (batch_1, batch_16)},
        "you count all layers below the ridge, BatchNorm and activations too; asked are the convolutions": {
            batch_1: _below(cost.layers, 1), batch_16: _below(cost.layers, 16)},
        "you count layers of all kinds below the ridge; asked are the convolutions": {
            batch_1: _below(moving, 1), batch_16: _below(moving, 16)},
        "you count all layers with parameters below the ridge, BatchNorm too; asked are the convolutions": {
            batch_1: _below(learning, 1), batch_16: _below(learning, 16)},
        "you count the classifier too, which is a linear layer; asked are the convolutions": {
            batch_1: _below(multiplying, 1), batch_16: _below(multiplying, 16)},
        "you compare FLOPs, two for each MAC, with the ridge, which is in MACs per byte": {
            batch_1: _below(layers, 1, macs=2), batch_16: _below(layers, 16, macs=32)},
        "the bytes of the parameters are missing from your counts; the weights must be read too": {
            batch_1: _below(layers, 1, weights=0), batch_16: _below(layers, 16, weights=0)},
        "you give shares of the convolutions; asked is how many there are": {
            key: right[key] / len(layers) for key in (batch_1, batch_16)},
        "the shares are in per cent; give them between 0 and 1": {key: 100 * right[key] for key in (macs, traffic)},
        "these are the MACs and bytes themselves, not shares; divide them": {
            macs: sum(one.macs for one in part), traffic: sum(one.traffic_bytes for one in part)},
        "your shares are those of the 1x1 layers": {
            macs: _share("macs", pointwise, layers), traffic: _share("traffic_bytes", pointwise, layers)},
        "your shares are those of the whole network; asked are those of the convolutions": {
            macs: _share("macs", part, cost.layers), traffic: _share("traffic_bytes", part, cost.layers)},
        "your shares are those of layers of all kinds; asked are those of the convolutions": {
            traffic: _share("traffic_bytes", part, [one for one in cost.layers if one.params or one.kind == "ReLU6"])},
        "you add the BatchNorms and activations that have \"depthwise\" in their names; asked are convolutions": {
            traffic: _share("traffic_bytes", named, layers)},
        "you take all layers with \"depthwise\" in their names, of all layers; asked are convolutions": {
            traffic: _share("traffic_bytes", named, cost.layers)},
        "you divide by the other convolutions; a share is a part of the whole": {
            macs: _share("macs", part, rest), traffic: _share("traffic_bytes", part, rest)},
        "your shares are those of all other convolutions; asked are the depthwise ones": {
            key: 1 - right[key] for key in (macs, traffic)},
        "the bytes of the weights are missing from the traffic": {
            traffic: sum(one.input_bytes + one.output_bytes for one in part)
                     / sum(one.input_bytes + one.output_bytes for one in layers)},
        "a share of the parameters is no share of the MACs": {macs: _share("params", part, layers)},
        "a share of how many layers there are is not asked: weigh each by its MACs or bytes": {
            key: len(part) / len(layers) for key in (macs, traffic)},
    }
    for decimals in ROUNDED:
        found[f"you round, as to {decimals} decimals; give the share as it is, not rounded"] = {
            key: round(right[key], decimals) for key in (macs, traffic)}
    return found
