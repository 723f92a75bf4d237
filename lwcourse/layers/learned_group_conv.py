"""Learned group convolution: Huang et al., CondenseNet, CVPR 2018, https://arxiv.org/abs/1711.09224, sec. 3.1."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LearnedGroupConv(nn.Conv2d):
    """A 1x1 convolution, dense at first, that finds out while it trains which inputs each group of outputs needs.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Cost: H * W * in_channels * out_channels multiply-adds, since dropped weights are masked, not gone;
    the grouped convolution that it turns into costs 1 / `condense_factor` of that.
    Output o belongs to group o % `groups`: outputs are dealt out, so that a following group convolution sees
    some of every group, as it would behind a channel shuffle (the "Permute" of Figure 1).

    `condense(progress)` moves it through its stages, and the training loop must call it. In each of C - 1
    stages, every group drops the 1/C of its inputs with the least sum of |weight|, so that 1/C remains
    (C is `condense_factor`, `groups` by default). What is dropped stays so: it is the buffer `dropped`,
    (groups, in_channels), which is saved with the weights; the stage reached is read from it.

    Raises ValueError unless `groups` divides in_channels and out_channels, and `condense_factor` in_channels.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int, condense_factor: int | None = None):
        factor = groups if condense_factor is None else condense_factor
        for name, value, channels, what in (("groups", groups, in_channels, "inputs"),
                                            ("groups", groups, out_channels, "outputs"),
                                            ("condense_factor", factor, in_channels, "inputs")):
            if not isinstance(value, int) or value < 1 or channels % value:
                raise ValueError(f"{name} must be a positive integer that divides the {channels} {what}, got {value!r}")
        super().__init__(in_channels, out_channels, 1, bias=False)  # dense: `groups` of nn.Conv2d stays 1
        self.learned_groups = groups
        self.condense_factor = factor
        # dropped, not kept: a moving average of all buffers then still knows everything that was dropped
        self.register_buffer("dropped", torch.zeros(groups, in_channels, dtype=torch.bool))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, learned_groups={self.learned_groups}, condense_factor={self.condense_factor}"

    @property
    def stage(self) -> int:
        """How many of the condense_factor - 1 condensing stages have been passed."""
        return int(self.dropped[0].sum()) * self.condense_factor // self.in_channels

    @property
    def condensed(self) -> bool:
        """Whether every stage has been passed."""
        return self.stage == self.condense_factor - 1

    def condense(self, progress: float) -> None:
        """Drop what is due when the share `progress` of the training is done; call it before each step.

        The stages fill the first half of the training: the i-th of C - 1 drops at i / (2 * (C - 1)). A call
        that finds several stages due drops for all of them; an earlier `progress` than before drops nothing.
        Raises ValueError unless 0 <= progress <= 1.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must be between 0 and 1, got {progress}")
        last = self.condense_factor - 1
        due = sum(2 * progress >= i / last for i in range(1, last + 1))
        excess = (due - self.stage) * (self.in_channels // self.condense_factor)
        if excess > 0:
            with torch.no_grad():
                importance = self._by_group(self.weight.abs()).sum(0).masked_fill(self.dropped, torch.inf)
                self.dropped.scatter_(1, importance.argsort(1)[:, :excess], True)

    def group_lasso(self) -> Tensor:
        """Regulariser that makes a group's weights from one input small together; 0 once condensed.

        The sum over groups and inputs of the root of the sum of squared weights. Its authors add it to the
        loss with a factor of 1e-5 on ImageNet; on CIFAR they saw no difference.
        """
        if self.condensed:
            return self.weight.new_zeros(())
        squares = self._by_group(self._masked().square()).sum(0)
        return squares.clamp(min=1e-6).sqrt().sum()  # the root has no slope at 0, and a dropped input counts 0.001

    def kept(self) -> Tensor:
        """(groups, in_channels / condense_factor): the inputs that each group has kept, in increasing order.

        Raises ValueError while there are stages to come.
        """
        if not self.condensed:
            raise ValueError(f"condensing is at stage {self.stage} of {self.condense_factor - 1}; train on, or call "
                             "condense(1.0) to drop at once what is still to be dropped")
        return (~self.dropped).nonzero()[:, 1].view(self.learned_groups, -1)

    def grouped(self) -> tuple[Tensor, nn.Conv2d]:
        """What it has turned into: (index, convolution), to be followed by ChannelShuffle(groups).

        The convolution has `groups` and takes the channels x[:, index]. Raises ValueError as `kept` does.
        """
        kept = self.kept()
        rows = self._by_group(self.weight).transpose(0, 1)  # (groups, out_channels / groups, in_channels)
        weight = rows.gather(2, kept[:, None].expand(-1, rows.shape[1], -1))
        conv = nn.Conv2d(kept.numel(), self.out_channels, 1, groups=self.learned_groups, bias=False)
        conv.to(self.weight).weight.data.copy_(weight.reshape(conv.weight.shape))
        return kept.flatten(), conv

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self._masked())

    def _masked(self) -> Tensor:
        mask = (~self.dropped).repeat(self.out_channels // self.learned_groups, 1)
        return self.weight * mask[:, :, None, None]

    def _by_group(self, weight: Tensor) -> Tensor:
        """(out_channels, in_channels, 1, 1) -> (out_channels / groups, groups, in_channels)."""
        return weight.view(-1, self.learned_groups, self.in_channels)
