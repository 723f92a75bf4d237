"""Random numbers in the place of those that would hide a difference.

A fresh network is full of zeros and ones: with running_var = 1 a wrong eps barely shows, a bias of 0
is a missing bias, a layer scale of 1e-6 switches its branch off. `Randomiser` replaces such numbers in a
copy, and scales every layer by what goes through it, so that nothing fades or explodes with depth.
"""
import torch
from torch import Tensor, nn

from lwcourse.compare.trace import MAPS, STATISTICS, Call, has_own_forward, owned, tensors_in


class Randomiser:
    """Randomises a copy of a model; its methods are the callbacks of `trace.run`. Uses a generator of its own."""

    def __init__(self, model: nn.Module, seed: int = 0):
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.done: set[nn.Module] = set()
        for module in model.modules():
            roles = owned(module)
            is_norm = any(role in STATISTICS for role in roles)
            for role, name in roles.items():
                if role not in STATISTICS:
                    self._refill(getattr(module, name), role, is_norm, isinstance(module, nn.modules.conv._ConvNd))

    def uniform(self, like: Tensor, low: float, high: float) -> Tensor:
        noise = torch.rand(like.shape, generator=self.generator, dtype=torch.float64, device="cpu")
        return (low + (high - low) * noise).to(like)

    def _refill(self, tensor: Tensor, role: str, is_norm: bool, is_conv: bool) -> None:
        values = tensor.detach()
        level = values.flatten()[0].item() if values.numel() and (values == values.flatten()[0]).all() else None
        if is_norm and role == "weight":
            level = 1.0
        if role == "bias" and (is_norm or is_conv):
            values.copy_(self.uniform(values, -0.3, 0.3))
            channels = torch.randperm(values.numel(), generator=self.generator, device="cpu")
            # One channel in 16 rises above 6, or ReLU6 would be the same as ReLU.
            values.view(-1)[channels[:max(1, len(channels) // 16)].to(values.device)] = 7.0
        elif level is None:
            return
        elif level == 0:
            values.copy_(self.uniform(values, -0.3, 0.3))
        elif abs(level) < 0.1:
            values.copy_(self.uniform(values, 0.5, 1.0))
        else:
            values.copy_(level * self.uniform(values, 0.75, 1.25))

    def before(self, call: Call, args: tuple) -> None:
        """Set BatchNorm's statistics from what comes in, so that what leaves has a variance near 1.

        Three quarters of each channel's mean are taken off: all of it would leave zeros of a 1 x 1 map.
        """
        roles, inputs = owned(call.module), tensors_in(args)
        if call.module in self.done or not inputs or not all(role in roles for role in STATISTICS):
            return
        mean, variance = (getattr(call.module, roles[role]) for role in STATISTICS)
        x = inputs[0]
        if x.dim() < 2 or x.shape[1] != mean.numel():
            return
        per_channel = x.transpose(0, 1).flatten(1)
        centre = 0.75 * per_channel.mean(1)
        spread = (per_channel - centre[:, None]).square().mean()
        if not spread > 0:
            spread = torch.ones_like(spread)
        mean.copy_((centre + spread.sqrt() * self.uniform(centre, -0.1, 0.1)).view_as(mean))
        variance.copy_((spread * self.uniform(centre, 0.75, 1.25)).view_as(variance))

    def after(self, call: Call, args: tuple, output: object) -> object:
        """Scale the weight of a convolution or linear layer, so that its output varies by about 1.

        With default weights each layer would vary less than the one before it, and 40 layers
        on only the biases would be left.
        """
        module = call.module
        if module in self.done:
            return None
        self.done.add(module)
        if not isinstance(module, MAPS) or has_own_forward(module) or "weight" not in owned(module):
            return None
        channel = -1 if isinstance(module, nn.Linear) else 1
        bias = 0 if module.bias is None else module.bias
        made = output.movedim(channel, -1) - bias
        rows = made.flatten(0, -2)
        size = (rows - rows.mean(0)).square().mean().sqrt()
        if size < 0.01 * rows.square().mean().sqrt():  # one pixel, say
            size = rows.square().mean().sqrt()
        if not size > 0 or 0.5 <= size <= 2:
            return None
        module.weight.div_(size)
        return (made / size + bias).movedim(-1, channel)
