"""Which modules train: frozen ones, and those that come in evaluation mode, stay as they are."""
import pytest
import torch
from sample_training import SHORT, few_digits, same_weights
from torch import nn

from lwcourse.data import Data
from lwcourse.train import evaluate, fit


@pytest.fixture(scope="module")
def few() -> Data:
    return few_digits()


def body_and_head() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8, affine=False),
                         nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(body, nn.Linear(8, 10))


def trained(model: nn.Module, few: Data, **options) -> tuple[dict[str, bool], set[str]]:
    """Fit, and return the mode that BatchNorm, Dropout and the head trained in, and what changed."""
    parts, seen = {"norm": model[0][1], "plain norm": model[0][3], "dropout": model[0][4], "head": model[1]}, {}

    def look(module, inputs):
        if torch.is_grad_enabled():
            seen.update({name: module.training for name, part in parts.items() if part is module})

    hooks = [part.register_forward_pre_hook(look) for part in parts.values()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, few, epochs=2, **SHORT, **options)
    for hook in hooks:
        hook.remove()
    assert not any(module.training for module in model.modules())
    return seen, {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


HEAD = {"1.weight", "1.bias"}
EMA = pytest.mark.parametrize("options", [{}, {"ema": 0.9}], ids=["plain", "ema"])


@EMA
def test_a_frozen_body_in_evaluation_mode_stays_as_it_is(few, options):
    model = body_and_head()
    model[0].requires_grad_(False).eval()
    expected = {"norm": False, "plain norm": False, "dropout": False, "head": True}, HEAD
    assert trained(model, few, **options) == expected
    assert trained(model, few, **options) == expected, "as fit leaves it, all of it in evaluation mode"


@EMA
def test_statistics_of_a_frozen_body_do_not_move(few, options):
    model = body_and_head()
    model[0].requires_grad_(False)
    seen, changed = trained(model, few, **options)
    assert changed == HEAD and not seen["norm"] and not seen["plain norm"] and seen["dropout"]


@EMA
def test_statistics_of_a_frozen_norm_do_not_move(few, options):
    model = body_and_head()
    model[0][1].requires_grad_(False)
    seen, changed = trained(model, few, **options)
    assert not seen["norm"] and seen["plain norm"] and seen["dropout"]
    assert not any(name.startswith("0.1.") for name in changed) and "0.3.running_mean" in changed


@pytest.mark.parametrize(("place", "name"), [(1, "norm"), (3, "plain norm"), (4, "dropout")])
def test_a_module_in_evaluation_mode_stays_so(few, place, name):
    model = body_and_head()
    model[0][place].eval()
    seen, changed = trained(model, few)
    assert {key for key, mode in seen.items() if not mode} == {name}
    assert not any(key.startswith(f"0.{place}.running") for key in changed) and "0.0.weight" in changed


def test_a_network_all_in_evaluation_mode_trains_like_any_other(few):
    plain, tested, inside = body_and_head(), body_and_head().eval(), body_and_head().eval()
    wrapped = nn.Sequential(*inside)  # a new container, in training mode itself
    assert wrapped.training
    evaluate(tested, few)
    results = [trained(model, few) for model in (plain, tested, wrapped)]
    assert all(results[0][0].values()) and results[0] == results[1] == results[2]
    assert same_weights(plain, tested) and same_weights(plain, wrapped)


def test_a_norm_that_never_trains_is_left_to_itself(few):
    class Fixed(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    model = body_and_head()
    model[0][1] = Fixed(8)
    seen, changed = trained(model, few)
    assert not seen["norm"] and "0.1.running_mean" not in changed and "0.1.weight" in changed
