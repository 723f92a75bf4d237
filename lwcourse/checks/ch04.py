"""Checks of chapter 04: GhostNet and AdderNet."""
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    a_function,
    a_module_class,
    compare_blocks,
    compare_numbers,
    ten_class_network,
    trained_accuracy,
)
from lwcourse.data import load_data
from lwcourse.layers import ConvBNAct, GhostModule
from lwcourse.models.ghostnet import GhostNet
from lwcourse.profile import profile

GHOST_CASES = (  # (in_channels, out_channels, ratio, cheap_kernel), input shape
    ((16, 24, 2, 3), (2, 16, 7, 9)),
    ((24, 12, 3, 5), (1, 24, 8, 6)),
    ((8, 15, 2, 3), (1, 8, 6, 7)),    # 15 is odd: 8 intrinsic maps, and one ghost too many
    ((12, 10, 4, 3), (2, 12, 5, 6)),
)
ETA = 0.2
PICOJOULE = {"addition": 0.9, "multiplication": 3.7}  # 32-bit floating point, 45 nm, Horowitz, ISSCC 2014
MAX_NANOJOULE, MAX_PARAMS, LEAST_ACCURACY = 3_000, 50_000, 0.4
RECIPE = {"epochs": 4, "lr": 0.1, "batch_size": 32}


def reference_ghost(in_channels: int, out_channels: int, ratio: int, cheap_kernel: int) -> nn.Module:
    return GhostModule(in_channels, out_channels, ratio=ratio, cheap_kernel=cheap_kernel)


@exercise("04.1", title="Ghost module", minutes=20, difficulty="medium", expects=a_module_class)
def ghost_module(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, ratio, cheap_kernel)`: a 1x1 Ghost module with ReLU."""
    _refuse_wrong_shape(answer)
    _refuse_wrong_parts(answer(16, 24, 3, 5))
    _refuse_wrong_cut(answer(8, 15, 2, 3))
    compare_blocks(answer, reference_ghost, GHOST_CASES)
    return f"Equal to the course's module in {len(GHOST_CASES)} settings."


def _refuse_wrong_shape(answer: Callable[..., nn.Module]) -> None:
    for arguments, shape in GHOST_CASES:
        built = answer(*arguments)
        if not isinstance(built, nn.Module):
            fail(f"{answer.__name__}{arguments} gives {type(built).__name__}, not an nn.Module")
        with torch.no_grad():
            y = built.eval()(torch.randn(shape))
        if not isinstance(y, Tensor):
            fail(f"forward gives {type(y).__name__}, not a tensor" + ("; is the return missing?" if y is None else ""))
        out_channels, ratio = arguments[1:3]
        if y.shape[1] != out_channels:
            why = (f"{out_channels} / {ratio} rounded up, times {ratio}, is more than {out_channels}: cut off the "
                   "surplus" if y.shape[1] > out_channels else
                   f"{out_channels} / {ratio} must be rounded up, or maps are missing")
            fail(f"{out_channels} channels are asked for, {y.shape[1]} come out: {why}",
                 "math.ceil(out_channels / ratio) intrinsic maps, and maps[:, :out_channels] at the end")
        if y.shape[2:] != shape[2:]:
            fail(f"an input of {shape[2]} x {shape[3]} pixels comes out as {y.shape[2]} x {y.shape[3]}: padding is "
                 "missing", "a kernel of d pixels needs padding d // 2")


def _refuse_wrong_parts(module: nn.Module) -> None:
    """`module` has 16 channels in, 24 out, ratio 3 and cheap kernel 5: 8 intrinsic maps, 16 ghosts."""
    convs = [one for one in module.modules() if isinstance(one, nn.Conv2d)]
    cheap = [one for one in convs if one.kernel_size == (5, 5)]
    if not cheap:
        fail("there is no 5 x 5 convolution, though cheap_kernel is 5", "the cheap filters have cheap_kernel pixels")
    for conv in cheap:
        if conv.in_channels == 16:
            fail("the cheap filters read the module's input; ghosts are made of the intrinsic maps",
                 "self.cheap(primary), not self.cheap(x)")
        if conv.groups == 1:
            fail("groups is missing in the cheap filters: each of them reads all intrinsic maps, which is not cheap",
                 "a depthwise convolution has as many groups as it has input channels")
    norms = sum(isinstance(one, nn.BatchNorm2d) for one in module.modules())
    if norms < len(convs):
        fail(f"{len(convs)} convolutions and {norms} BatchNorms: BatchNorm is missing behind one half",
             "both halves end in BatchNorm and ReLU")
    with torch.no_grad():
        y = module.eval()(torch.randn(2, 16, 9, 9))
    for half, maps in (("intrinsic maps", y[:, :8]), ("ghosts", y[:, 8:])):
        if maps.min() < 0:
            fail(f"some of the {half} are negative: the activation is missing behind that half",
                 "both halves end in BatchNorm and ReLU")


def _refuse_wrong_cut(module: nn.Module) -> None:
    """`module` makes 8 intrinsic maps, which see one pixel, and 8 ghosts, which see 3 x 3; of the 16 it keeps 15."""
    x = torch.randn(1, 8, 7, 7)
    lit = x.clone()
    lit[0, :, 3, 3] += 5
    with torch.no_grad():
        changed = module.eval()(lit) != module(x)
    changed[0, :, 3, 3] = False
    ghosts = changed[0].flatten(1).any(1).tolist()
    if ghosts[7] and not any(ghosts[:7]):
        fail("the surplus is cut off at the front: only 7 of 8 intrinsic maps are left",
             "maps[:, :out_channels] keeps the first ones")


class _Adder(torch.autograd.Function):
    """Rows x (P, K) against templates w (O, K), with the paper's gradients; the class attributes plant mistakes."""
    sign, power = -1, 1
    weight_slope = staticmethod(lambda d: d)
    input_slope = staticmethod(lambda d: (-d).clamp(-1, 1))
    rescale = staticmethod(lambda grad: ETA * grad.numel()**0.5 / grad.norm())

    @classmethod
    def compute(cls, x: Tensor, w: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Output, gradient of x, gradient of w."""
        d = x[:, None] - w                                     # (P, O, K)
        grad_w = (g[:, :, None] * cls.weight_slope(d)).sum(0)
        return (cls.sign * d.abs().pow(cls.power).sum(2), (g[:, :, None] * cls.input_slope(d)).sum(1),
                grad_w * cls.rescale(grad_w))


def _mistaken(**changes) -> type[_Adder]:
    return type("Mistaken", (_Adder,), {name: staticmethod(value) if callable(value) else value
                                        for name, value in changes.items()})


OUTPUT_MISTAKES = {
    "the minus is missing: the least similar template gets the largest answer": _mistaken(sign=1),
    "the differences are squared; the adder takes their absolute values": _mistaken(power=2),
}
INPUT_MISTAKES = {
    "the input's gradient is not clipped: it is the sum of g * (w - x), without limits":
        _mistaken(input_slope=lambda d: -d),
    "the input's gradient uses the sign, which is the derivative; the paper clips w - x to [-1, 1]":
        _mistaken(input_slope=lambda d: -d.sign()),
    "the input's gradient has the wrong sign: it pushes x away from the template":
        _mistaken(input_slope=lambda d: d.clamp(-1, 1)),
}
WEIGHT_MISTAKES = {
    "the weight's gradient is not rescaled": _mistaken(rescale=lambda grad: 1.0),
    "the weight's gradient is scaled to the norm eta: the factor sqrt(k), for k numbers, is missing":
        _mistaken(rescale=lambda grad: ETA / grad.norm()),
    "the weight's gradient uses the sign, which is the derivative; the paper takes x - w in full precision":
        _mistaken(weight_slope=lambda d: d.sign()),
    "the weight's gradient is the sign, and not rescaled either":
        _mistaken(weight_slope=lambda d: d.sign(), rescale=lambda grad: 1.0),
    "the weight's gradient is clipped; that is for the input, the weight takes x - w in full precision":
        _mistaken(weight_slope=lambda d: d.clamp(-1, 1)),
    "the weight's gradient has the wrong sign: it pushes the template away from x":
        _mistaken(weight_slope=lambda d: -d),
}


def an_autograd_function(answer) -> bool:
    """a class that inherits from torch.autograd.Function (its name, without brackets)"""
    return isinstance(answer, type) and issubclass(answer, torch.autograd.Function)


@exercise("04.2", title="An adder, forward and backward", minutes=25, difficulty="hard", expects=an_autograd_function)
def adder_function(answer: type[torch.autograd.Function]) -> str:
    """`answer.apply(x, w)` for rows x (P, K) and templates w (O, K)."""
    for positions, channels, outputs in ((7, 5, 3), (1, 4, 6), (12, 9, 2)):
        x, w = 2 * torch.randn(positions, channels), torch.randn(outputs, channels)
        g = torch.randn(positions, outputs)
        mine_x, mine_w = x.clone().requires_grad_(), w.clone().requires_grad_()
        y = answer.apply(mine_x, mine_w)
        shapes = f"x {tuple(x.shape)} and w {tuple(w.shape)}"
        if not isinstance(y, Tensor) or y.shape != g.shape:
            got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
            fail(f"for {shapes} the output must have shape {tuple(g.shape)}, got {got}")
        right = _Adder.compute(x, w, g)
        _refuse_part("the output", y.detach(), right[0], [(why, one.compute(x, w, g)[0])
                                                          for why, one in OUTPUT_MISTAKES.items()])
        try:
            y.backward(g)
        except RuntimeError as error:
            if "invalid gradient" not in str(error):
                raise
            fail("backward gives a gradient of a wrong shape: first that of x, (P, K), then that of w, (O, K)",
                 "return grad_x, grad_w")
        for name, part, index, mistakes in (("the input's gradient", mine_x, 1, INPUT_MISTAKES),
                                            ("the weight's gradient", mine_w, 2, WEIGHT_MISTAKES)):
            if part.grad is None:
                fail(f"{name} is missing: backward gives None for it", "return grad_x, grad_w")
            wrong = [(why, one.compute(x, w, g)[index]) for why, one in mistakes.items()]
            if index == 1:
                unclipped = _mistaken(input_slope=lambda d: -d).compute(x, w, g)[1]
                wrong += [("the input's gradient is clipped after the sum; clip each w - x, then sum",
                           total.clamp(-1, 1)) for total in (right[1], unclipped)]
            _refuse_part(name, part.grad, right[index], wrong)
    return "Output and both gradients are the paper's."


def _refuse_part(name: str, mine: Tensor, right: Tensor, mistakes: list[tuple[str, Tensor]]) -> None:
    def equal(other: Tensor) -> bool:
        return torch.allclose(mine.to(other), other, rtol=1e-4, atol=1e-5)
    if equal(right):
        return
    for why, other in mistakes:
        if equal(other):
            fail(why)
    ratio = (mine * right).sum() / right.square().sum()
    fail(f"{name} is wrong" + (f": it is {ratio:.3g} times what it should be" if equal(ratio * right) else ""),
         "begin with d = x[:, None] - w, of shape (P, O, K), and sum over the right dimension")


def _no_ghosts(in_channels: int, out_channels: int, *, act: Callable[..., nn.Module] | None = nn.ReLU) -> nn.Module:
    return ConvBNAct(in_channels, out_channels, 1, act=act)


ABLATIONS = {"as published": GhostModule, "no ghosts": _no_ghosts, "ratio 4": partial(GhostModule, ratio=4)}


@exercise("04.3", title="What ghosts save", minutes=15, difficulty="medium", expects=dict)
def ghosts_saved(answer: Mapping[str, int]) -> str:
    """`answer` maps the names in ABLATIONS to the MACs of GhostNet with that module, at 224 x 224."""
    if set(answer) != set(ABLATIONS):
        fail(f"the keys must be {', '.join(map(repr, ABLATIONS))}; got {', '.join(map(repr, answer)) or 'none'}")
    costs = {name: _on_paper(ghost) for name, ghost in ABLATIONS.items()}
    macs = {name: cost.macs for name, cost in costs.items()}
    mistakes = {
        "these are parameters; the question is for MACs": {name: cost.params for name, cost in costs.items()},
        "you count a multiply and an add as two; one MAC is both together": {n: 2 * count for n, count in macs.items()},
        "these are millions of MACs; give the counts themselves": {n: count / 1e6 for n, count in macs.items()},
        "\"ratio 4\" is the published network: did the ratio arrive in the modules?":
            macs | {"ratio 4": macs["as published"]},
        "\"no ghosts\" is the published network: are its modules still Ghost modules?":
            macs | {"no ghosts": macs["as published"]},
        "\"no ghosts\" has 3x3 convolutions; a Ghost module of GhostNet stands for a 1x1 convolution":
            macs | {"no ghosts": _on_paper(partial(ConvBNAct, kernel_size=3)).macs},
    }
    compare_numbers(answer, macs, mistakes, tolerance=1e-6,
                    hint="build GhostNet(ghost=...) for each and read lw.profile(network, (3, 224, 224)).macs")
    without, four = (macs[name] / macs["as published"] for name in ("no ghosts", "ratio 4"))
    return f"Without ghosts it takes {without:.2f} times the MACs; with ratio 4 {four:.2f} of them remain."


def _on_paper(ghost: Callable[..., nn.Module]):
    with torch.device("meta"):  # shapes only: nothing is computed
        return profile(GhostNet(ghost=ghost), (3, 224, 224))


def nanojoule(network: nn.Module, input_size: tuple[int, int, int]) -> float:
    """The energy of the arithmetic for one image, by PICOJOULE."""
    cost = profile(network, input_size)
    mac = PICOJOULE["addition"] + PICOJOULE["multiplication"]
    return 1e-3 * (cost.macs * mac + cost.adds * PICOJOULE["addition"])


@exercise("04.4", title="A network on 3,000 nanojoules", minutes=30, difficulty="hard", expects=a_function)
def energy_budget(answer: Callable[[], nn.Module]) -> str:
    """`answer()` builds a network for (N, 3, 32, 32) and ten classes; it is trained here, and accuracy is its score."""
    network = ten_class_network(answer, (3, 32, 32))
    spent, params = nanojoule(network, (3, 32, 32)), profile(network, (3, 32, 32)).params
    over = [f"{spent:,.0f} nJ, of {MAX_NANOJOULE:,} allowed"] if spent > MAX_NANOJOULE else []
    over += [f"{params:,} parameters, of {MAX_PARAMS:,} allowed"] if params > MAX_PARAMS else []
    if over:
        fail(f"over budget: {'; '.join(over)}",
             "a stride in the first layer, ghosts or adders for wide ones; print(lw.profile(my_design(), (3, 32, 32)))")
    accuracy = trained_accuracy(answer, load_data("photo_digits", copies=1), RECIPE,
                                hint="is there a BatchNorm behind every convolution and adder?")
    if accuracy < LEAST_ACCURACY:
        fail(f"within both budgets, but it learned too little: {accuracy:.0%} of the test digits are right, "
             f"{LEAST_ACCURACY:.0%} are needed", "does BatchNorm follow every adder? Fewer layers learn faster")
    return f"{accuracy:.1%} of the test digits are right, with {spent:,.0f} nJ and {params:,} parameters."
