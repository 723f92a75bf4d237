"""Peak of live activations by liveness, derived by hand; and what eager PyTorch holds."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import lwcourse as lw

X, Y = 4 * 3 * 64, 4 * 10 * 64  # bytes of an image of 3 x 8 x 8, and of a map of ten channels


def peak(network, size=(3, 8, 8)) -> int:
    return lw.profile(network, size).peak_activation_bytes


class Run(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.parts, self.function = nn.ModuleList(modules), function

    def forward(self, x):
        return self.function(x, *self.parts)


def conv(c_in=10, c_out=10):
    return nn.Conv2d(c_in, c_out, 1)


def test_a_chain_needs_two_maps():
    assert peak(nn.Sequential(conv(3))) == X + Y
    assert peak(nn.Sequential(conv(3), nn.ReLU(), conv())) == 2 * Y, "the input is dead after its only reader"
    assert peak(nn.Sequential(conv(3), nn.ReLU(inplace=True))) == X + Y, "in place is no second map"
    assert peak(nn.Sequential(conv(3, 1), conv(1, 1))) == X + Y // 10


@pytest.mark.parametrize("nested", [True, False])
def test_frames_and_variables_keep_nothing_alive(nested):
    layers = [conv(3), nn.BatchNorm2d(10), conv(), nn.BatchNorm2d(10), conv(), nn.BatchNorm2d(10)]
    pairs = [nn.Sequential(*layers[i:i + 2]) for i in (0, 2, 4)] if nested else layers
    assert peak(nn.Sequential(*pairs)) == 2 * Y

    def named(x, *parts):
        first = parts[0](x)
        second = parts[1](first)
        third = parts[2](second)
        return third
    assert peak(Run(named, conv(3), conv(), conv())) == 2 * Y


def test_eager_pytorch_holds_what_frames_name():
    inner = nn.Sequential(nn.BatchNorm2d(10), nn.BatchNorm2d(10))
    counted = lw.profile(nn.Sequential(conv(3), inner), (3, 8, 8))
    assert counted.peak_activation_bytes == 2 * Y
    assert counted.eager_peak_bytes == X + 3 * Y, "x and the argument of the inner Sequential are still named"
    assert "peak of live activations 5.0 KiB (eager PyTorch holds 8.2 KiB)" in str(counted)


def test_a_shortcut_keeps_its_map():
    # While the sum is made, x, y and the sum are alive; without the shortcut, two maps would be enough.
    assert peak(Run(lambda x, a, b: x + b(a(x)), conv(), conv()), (10, 8, 8)) == 3 * Y
    assert peak(Run(lambda x, a, b: b(a(x)).add_(x), conv(), conv()), (10, 8, 8)) == 3 * Y, "a(x), b(a(x)) and x"
    assert peak(Run(lambda x, a: a(x).add_(x), conv()), (10, 8, 8)) == 2 * Y, "in place, no third map"


def test_the_inverted_residual_of_chapter_01():
    from lwcourse.models.mobilenet_v2 import InvertedResidual
    block = InvertedResidual(24, 24, 1, 6)
    # The shortcut's 24 channels, and BatchNorm's input and output of 144: 1 + 6 + 6 maps of 24 channels.
    assert peak(block, (24, 14, 14)) == 13 * 4 * 24 * 14 * 14


def test_a_view_keeps_its_base():
    halves = Run(lambda x, a: torch.cat([x.chunk(2, 1)[0], a(x.chunk(2, 1)[1])], 1), conv(5, 5))
    assert peak(halves, (10, 8, 8)) == Y + Y // 2 + Y, "a half that is read keeps the whole map"
    tail = Run(lambda x, a, b: b(a(x)[:, :1]), conv(), conv(1, 1))
    assert peak(tail, (10, 8, 8)) == 2 * Y


def test_what_is_returned_lives_to_the_end():
    assert peak(Run(lambda x, a, b, c: (a(x), c(b(x))), conv(3), conv(3), conv())) == 3 * Y
    assert peak(Run(lambda x, a, b, c: {"first": a(x), "last": c(b(x))}, conv(3), conv(3), conv())) == 3 * Y
    assert peak(Run(lambda x, a, b, c: (a(x), c(b(x)))[1], conv(3), conv(3), conv())) == max(X + 2 * Y - Y, 2 * Y)


def test_what_nobody_reads_dies_at_once():
    # The map of `a` has no reader and is not returned: it needs its place only while it is written.
    assert peak(Run(lambda x, a, b, c: (a(x), c(b(x)))[1], conv(3), conv(3), conv())) == 2 * Y
    pool = Run(lambda x: F.max_pool2d(x, 2), )
    assert peak(pool, (10, 8, 8)) == Y + Y // 4, "the places of the maxima are nobody's"
    both = Run(lambda x: F.max_pool2d(x, 2, return_indices=True))
    assert peak(both, (10, 8, 8)) == Y + Y // 4 + Y // 2


def test_constants_and_weights_are_no_activations():
    grid = torch.ones(10, 8, 8)
    assert peak(Run(lambda x: x + grid), (10, 8, 8)) == 2 * Y
    assert peak(nn.Linear(1000, 2), (1000,)) == 4 * (1000 + 2)


def test_memory_that_is_filled_piece_by_piece_lives_from_its_first_piece():
    def function(x, a):
        out = torch.empty(1, 10, 8, 8)
        out[:, :5] = a(x)[:, :5]
        out[:, 5:] = x[:, 5:]
        return out
    assert peak(Run(function, conv()), (10, 8, 8)) == 3 * Y


def test_the_peak_is_that_of_a_simulation():
    """Another way to the same number: run with a list of what each operator touched, then free after the last touch."""
    class Log(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.steps = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            output = func(*args, **(kwargs or {}))
            flat = [t for t in torch.utils._pytree.tree_leaves((args, kwargs, output)) if isinstance(t, torch.Tensor)]
            if not func.is_view and not func._schema.name.startswith("aten::empty"):
                self.steps.append(flat)
            return output

    network = lw.create_model("shufflenet_v2", 10, width=0.5).eval()
    weights = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    x = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), Log() as log:
        out = network(x)
    seen = [{t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in step if t.numel()
             and t.dtype == torch.float32 and t.untyped_storage().data_ptr() not in weights} for step in log.steps]
    first = {key: i for i, step in reversed(list(enumerate(seen))) for key in step} | {x.data_ptr(): 0}
    last = {key: i for i, step in enumerate(seen) for key in step} | {out.data_ptr(): len(seen)}
    sizes = {key: size for step in seen for key, size in step.items()}
    expected = max(sum(size for key, size in sizes.items() if first[key] <= i <= last[key]) for i in range(len(seen)))
    assert peak(network, (3, 64, 64)) == expected
