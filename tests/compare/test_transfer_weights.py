"""lwcourse.transfer_weights: layers are matched in the order in which they run, and nothing is half-written."""
import pytest
import timm
import torch
import torchvision
from torch import nn

from lwcourse import create_model, transfer_weights


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def randomised(model):
    """`model` with every tensor random, so that one which is not copied shows."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand_like(tensor))
        elif tensor.is_floating_point():
            tensor.copy_(0.1 * torch.randn_like(tensor))
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(17)
    return model.eval()


def logits(model, x):
    with torch.no_grad():
        return model.eval()(x)


@pytest.mark.parametrize("source, target", [
    (torchvision.models.mobilenet_v2, lambda: create_model("mobilenet_v2")),
    (lambda: create_model("mobilenet_v2"), lambda: timm.create_model("mobilenetv2_100")),
    (lambda: torchvision.models.resnet18(num_classes=7), lambda: timm.create_model("resnet18", num_classes=7)),
    (lambda: torchvision.models.shufflenet_v2_x0_5(), lambda: torchvision.models.shufflenet_v2_x0_5()),
    (lambda: torchvision.models.densenet121(), lambda: timm.create_model("densenet121")),
], ids=["torchvision to ours", "ours to timm", "resnet", "shufflenet", "densenet"])
def test_logits_are_equal_afterwards(source, target):
    source, target, x = randomised(source()), target(), images(2, 3, 64, 48)
    transfer_weights(source, target, x)
    torch.testing.assert_close(logits(target, x), logits(source, x))
    assert all(v == 17 for name, v in target.named_buffers() if name.endswith("num_batches_tracked"))


def test_parameters_of_blocks_position_tables_and_attention():
    """torchvision keeps class token and positions in two modules, timm in one; torch never calls its projection."""
    source = randomised(torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10))
    target = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=4, mlp_ratio=2,
                                           num_classes=10)
    x = images(2, 3, 32, 32)
    transfer_weights(source, target, x)
    torch.testing.assert_close(logits(target, x), logits(source, x))


class Scaled(nn.Module):
    """A layer scale as the block's own parameter, or in a module."""

    def __init__(self, own):
        super().__init__()
        self.conv, self.own = nn.Conv2d(3, 4, 1), own
        if own:
            self.gamma = nn.Parameter(torch.ones(4, 1, 1))
        else:
            self.scale = nn.Module()
            self.scale.weight = nn.Parameter(torch.ones(4))
        self.end = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.end(self.conv(x) * (self.gamma if self.own else self.scale.weight[:, None, None]))


def test_a_blocks_own_parameter_matches_that_of_a_module():
    source, target, x = randomised(Scaled(True)), Scaled(False), images(2, 3, 5, 5)
    transfer_weights(source, target, x)
    torch.testing.assert_close(logits(target, x), logits(source, x))
    assert torch.equal(target.scale.weight, source.gamma.flatten())


def test_a_norm_written_by_hand():
    class Norm(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.gamma, self.beta = (nn.Parameter(torch.zeros(1, channels, 1, 1)) for _ in range(2))
            self.register_buffer("moving_mean", torch.zeros(1, channels, 1, 1))
            self.register_buffer("moving_var", torch.ones(1, channels, 1, 1))

        def forward(self, x):
            return self.gamma * (x - self.moving_mean) / (self.moving_var + 1e-5).sqrt() + self.beta
    source, target, x = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))), None, images(2, 3, 5, 5)
    target = nn.Sequential(nn.Conv2d(3, 4, 1), Norm(4))
    transfer_weights(source, target, x)
    torch.testing.assert_close(logits(target, x), logits(source, x))


def test_order_of_calls_counts_and_not_of_names():
    class Back(nn.Module):
        def __init__(self):
            super().__init__()
            self.z, self.a = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.z(torch.relu(self.a(x)))
    source, target, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), Back(), images(2, 4)
    transfer_weights(source, target, x)
    assert torch.equal(target.a.weight, source[0].weight) and torch.equal(target.z.bias, source[2].bias)
    assert torch.equal(logits(target, x), logits(source, x))


def test_linear_and_1x1_convolution_dtype_and_flags():
    source = nn.Sequential(nn.Linear(6, 5))
    target = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 5, 1)).double().train()
    target[2].weight.requires_grad_(False)
    transfer_weights(source, target, images(2, 6))
    assert torch.equal(target[2].weight.flatten(1), source[0].weight.double())
    assert target.training and target[2].weight.dtype is torch.float64
    assert not target[2].weight.requires_grad and target[2].bias.requires_grad
    assert not target[2]._forward_hooks and not target[2]._forward_pre_hooks


def test_layers_that_x_never_reaches_stay():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare, self.used = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)
    source, target = nn.Sequential(nn.Linear(3, 3)), Spare()
    before = target.spare.weight.clone()
    transfer_weights(source, target, images(1, 3))
    assert torch.equal(target.used.weight, source[0].weight) and torch.equal(target.spare.weight, before)


def chain(*widths, bias=True, kernel=1):
    return nn.Sequential(*(nn.Conv2d(a, b, kernel, bias=bias) for a, b in zip(widths, widths[1:], strict=False)))


@pytest.mark.parametrize("source, target, message", [
    (chain(3, 4, 5), chain(3, 4, 6),
     r"layer 2 of 2 cannot be copied: `1` \(Conv2d: weight \(5, 4, 1, 1\), bias \(5,\)\) of the source does not fit "
     r"`1` \(Conv2d: weight \(6, 4, 1, 1\), bias \(6,\)\) of the target; nothing was copied"),
    (chain(3, 4, 4, 5), chain(3, 4, 5), r"`1` .* of the source does not fit `1`"),
    (chain(3, 4, 4), chain(3, 4),
     r"the source runs 2 layers with tensors, the target 1: `1` \(Conv2d: .* of the source has no partner in the tar"),
    (chain(3, 4), chain(3, 4, 4), r"`1` \(Conv2d: .* of the target has no partner in the source"),
    (chain(3, 4), chain(3, 4, bias=False),
     r"bias \(4,\)\) of the source does not fit `0` \(Conv2d: weight \(4, 3, 1, 1\)\) of the target"),
    (nn.Conv2d(3, 3, (3, 1), groups=3), nn.Conv2d(3, 3, (1, 3), groups=3),
     r"weight \(3, 1, 3, 1\).* does not fit .*\(3, 1, 1, 3\)"),
    (nn.Sequential(chain(3, 4), nn.BatchNorm2d(4)), nn.Sequential(chain(3, 4), nn.GroupNorm(1, 4)),
     r"layer 2 of 2 .* does not fit `1` \(GroupNorm"),
], ids=["shape", "one more inside", "source longer", "target longer", "bias", "3x1 against 1x3", "norms"])
def test_refuses_and_writes_nothing(source, target, message):
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        transfer_weights(source, target, images(1, 3, 4, 4))
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_tied_weights_cannot_take_two_values():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    before = tied[0].weight.clone()
    with pytest.raises(ValueError, match="shares its weight with an earlier layer, but the source has two different"):
        transfer_weights(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), tied, images(2, 3))
    assert torch.equal(tied[0].weight, before)


def test_bad_input():
    model, x = nn.Linear(3, 3), images(2, 3)
    with pytest.raises(TypeError, match="source must be a torch.nn.Module, got dict"):
        transfer_weights({}, model, x)
    with pytest.raises(ValueError, match=r"target \(ReLU\) has no parameters"):
        transfer_weights(model, nn.ReLU(), x)
    with pytest.raises(TypeError, match="x must be a tensor"):
        transfer_weights(model, nn.Linear(3, 3), 3)
    with pytest.raises(ValueError, match=r"target cannot run x of shape \(2, 3\).*mat1 and mat2"):
        transfer_weights(model, nn.Linear(4, 3), x)
