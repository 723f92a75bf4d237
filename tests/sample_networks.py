"""A small network with one of everything, which the tests of lwcourse.compare build wrongly in many ways."""
import torch
import torch.nn.functional as F
from torch import nn


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def channel_shuffle(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Tiny(nn.Module):
    """A network with one of everything, in functional style; each option is one way to build it differently."""

    def __init__(self, act=F.relu6, stem=(), eps=1e-5, momentum=0.1, pool=F.max_pool2d, relu="after", shortcut=True,
                 norm2=True, bias2=False, order="ab", groups=4, depthwise=(), squeeze="after", gate=torch.sigmoid,
                 scale=1.0, head=lambda x: x.mean((2, 3)), dropout=0.0, always_drop=False, classes=10,
                 end=lambda x: x):
        super().__init__()
        self.act, self.pool, self.relu, self.shortcut, self.order = act, pool, relu, shortcut, order
        self.groups, self.squeeze, self.gate, self.scale, self.head = groups, squeeze, gate, scale, head
        self.end, self.dropout, self.always_drop = end, dropout, always_drop
        self.conv1 = nn.Conv2d(3, 16, **dict(kernel_size=3, stride=2, padding=1, bias=False) | dict(stem))
        self.norm1 = nn.BatchNorm2d(16, eps, momentum)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=bias2)
        self.norm2 = nn.BatchNorm2d(16) if norm2 else nn.Identity()
        self.a = nn.Sequential(nn.Conv2d(16, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.b = nn.Sequential(nn.Conv2d(16, 20, 3, padding=1, bias=False), nn.BatchNorm2d(20))
        self.depthwise = nn.Conv2d(32, 32, bias=False, **dict(kernel_size=3, padding=1, groups=32) | dict(depthwise))
        self.norm3 = nn.BatchNorm2d(32)
        self.down, self.up = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.project, self.norm4 = nn.Conv2d(32, 24, 1, bias=False), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, classes)

    def forward(self, x):
        x = self.pool(self.act(self.norm1(self.conv1(x))), 3, 2, 1)
        y = self.norm2(self.conv2(x))
        y = F.relu(y) if self.relu == "before" else y
        y = y + x if self.shortcut else y
        y = F.relu(y) if self.relu == "after" else y
        a, b = F.relu(self.a(y)), F.relu(self.b(y))
        x = channel_shuffle(torch.cat([a, b] if self.order == "ab" else [b, a], 1), self.groups)
        x = self.norm3(self.depthwise(x))
        x = x if self.squeeze == "before" else F.hardswish(x)
        weight = self.gate(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        x = x if self.squeeze == "unused" else x * weight
        x = F.hardswish(x) if self.squeeze == "before" else x
        x = self.head(self.norm4(self.project(x)) * self.scale)
        return self.end(self.fc(F.dropout(x, self.dropout, training=self.training or self.always_drop)))
