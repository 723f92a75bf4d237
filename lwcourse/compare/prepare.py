"""Random numbers in the place of those that would hide a difference.

A fresh network is full of zeros and ones: with running_var = 1 a wrong eps barely shows, a bias of 0
is a missing bias, a layer scale of 1e-6 switches its branch off, and what the first layer does has
faded to nothing 40 layers on. `Randomiser` changes a copy so that every layer's output varies by
about 1, is near 0 on average, and reaches 7 somewhere: or ReLU6 would be the same as ReLU.
"""
import torch
from torch import Tensor, nn

from lwcourse.compare.trace import MAPS, STATISTICS, Call, has_own_forward, owned, tensors_in


class Randomiser:
    """Randomises a copy of a model; `before` and `after` are the callbacks of `trace.run`.

    The constructor replaces constants, the callbacks what depends on the data. The random
    numbers come from a generator of its own.
    """

    def __init__(self, model: nn.Module, seed: int = 0):
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.done: set[nn.Module] = set()
        for parameter in model.parameters():
            values = parameter.detach()
            ends = values.flatten()[[0, -1]].tolist() if values.numel() else (0, 1)
            if ends[0] == ends[1] and (values == ends[0]).all():  # the ends alone spare most tensors the comparison
                self._refill(values, ends[0])

    def uniform(self, like: Tensor, low: float, high: float) -> Tensor:
        noise = torch.rand(like.shape, generator=self.generator, dtype=torch.float64, device="cpu")
        return (low + (high - low) * noise).to(like)

    def _refill(self, values: Tensor, level: float) -> None:
        """Replace a constant: a zero by small numbers, a tiny scale by a visible one, others by about the same."""
        if level == 0:
            values.copy_(self.uniform(values, -0.3, 0.3))
        elif abs(level) < 0.1:
            values.copy_(self.uniform(values, 0.5, 1.0))
        else:
            values.copy_(level * self.uniform(values, 0.75, 1.25))

    def _scale_and_shift(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Per channel of (n, C) normalised values: near 1 and near 0, but one channel in 16 is stretched up to 7."""
        scale, shift = self.uniform(rows[0], 0.75, 1.25), self.uniform(rows[0], -0.3, 0.3)
        order = torch.randperm(len(shift), generator=self.generator, device="cpu")
        stretched = order[:max(1, len(order) // 16)].to(rows.device)
        scale[stretched] = 2.5
        shift[stretched] = 7 - 2.5 * rows[:, stretched].amax(0)
        return scale, shift

    @staticmethod
    def _centre(rows: Tensor) -> Tensor:
        """Most of each channel's mean over n values; all of it would leave nothing when n is 1."""
        return (1 - 1 / len(rows)) * rows.mean(0)

    def before(self, call: Call, args: tuple) -> None:
        """Set the statistics, scale and shift of a BatchNorm from what comes in."""
        roles, inputs = owned(call.module), tensors_in(args)
        if call.module in self.done or not inputs or not all(role in roles for role in STATISTICS):
            return
        own = {role: getattr(call.module, name).detach() for role, name in roles.items()}
        x = inputs[0]
        if x.dim() < 2 or x.shape[1] != own["running_mean"].numel():
            return
        rows = x.movedim(1, -1).flatten(0, -2)
        centre = self._centre(rows)
        spread = (rows - centre).square().mean()
        if not spread > 0:
            spread = torch.ones_like(spread)
        mean = centre + spread.sqrt() * self.uniform(centre, -0.1, 0.1)
        variance = spread * self.uniform(centre, 0.75, 1.25)
        scale, shift = self._scale_and_shift((rows - mean) / variance.sqrt())
        for role, value in (("running_mean", mean), ("running_var", variance), ("weight", scale), ("bias", shift)):
            if role in own:
                own[role].copy_(value.view_as(own[role]))

    def after(self, call: Call, args: tuple, output: object) -> object:
        """Scale the weight of a convolution or linear layer, and set its bias, from what goes out."""
        module = call.module
        if module in self.done:
            return None
        self.done.add(module)
        if not isinstance(module, MAPS) or has_own_forward(module) or "weight" not in owned(module):
            return None
        channel = -1 if isinstance(module, nn.Linear) else 1
        made = output.movedim(channel, -1)
        made = made if module.bias is None else made - module.bias
        rows = made.flatten(0, -2)
        centre = self._centre(rows)
        size = (rows - centre).square().mean().sqrt()
        if not size > 0:
            return None
        if module.bias is None:
            module.weight.div_(size)
            return output / size
        scale, shift = self._scale_and_shift((rows - centre) / size)
        if isinstance(module, nn.modules.conv._ConvTransposeNd):  # its weight's first dimension is the input's
            scale = torch.ones_like(scale)
            module.weight.div_(size)
        else:
            module.weight.mul_((scale / size).view(-1, *[1] * (module.weight.dim() - 1)))
        module.bias.copy_(shift - centre * scale / size)
        return (made * scale / size + module.bias).movedim(-1, channel)
