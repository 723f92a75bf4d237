"""Recipes: their settings against computations by hand and torch's own optimisers, and what they refuse."""
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sample_training import QUIET, SHORT, few_digits, same_weights, tiny, without_batchnorm, without_time
from torch import nn

from lwcourse.data import Data
from lwcourse.tasks import Classification, Segmentation
from lwcourse.train import Recipe, fit
from lwcourse.train.optimizers import classifier_names, frozen_parameters, make_optimizer
from lwcourse.train.recipes import RECIPES, changed, named_recipe
from lwcourse.train.schedules import share_by_name


@pytest.fixture(scope="module")
def few() -> Data:
    return few_digits()


OPTIMIZERS = {
    "sgd": ({"momentum": 0.8, "nesterov": False},
            lambda parameters: torch.optim.SGD(parameters, 0.05, 0.8, weight_decay=0.01)),
    "adamw": ({"momentum": 0.8, "second_moment": 0.95, "epsilon": 1e-6},
              lambda parameters: torch.optim.AdamW(parameters, 0.05, (0.8, 0.95), 1e-6, weight_decay=0.01)),
    "rmsprop": ({"momentum": 0.8, "second_moment": 0.95, "epsilon": 1e-3},
                lambda parameters: torch.optim.RMSprop(parameters, 0.05, 0.95, 1e-3, 0.01, 0.8)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_torchs_own(few, name):
    settings, build = OPTIMIZERS[name]
    model, by_hand = without_batchnorm(), without_batchnorm()
    seen = []
    history = fit(model, few, epochs=1, lr=0.05, weight_decay=0.01, optimizer=name, schedule="constant",
                  warmup_epochs=0, channels_last=False, watch=lambda run: seen.append(run), **settings, **SHORT)
    optimizer = build(by_hand.parameters())
    for images, labels, _ in seen[0].train.epoch(0):
        loss = F.cross_entropy(by_hand(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for mine, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert len(history.step_losses) == 6


def test_weight_decay_spares_vectors():
    model = tiny()
    decays = {id(parameter): group["weight_decay"] for group in
              make_optimizer(model, Recipe(decay_norms=False, weight_decay=0.1), 10).param_groups
              for parameter in group["params"]}
    assert {name: decays[id(parameter)] for name, parameter in model.named_parameters()} == {
        name: 0.1 if parameter.ndim > 1 else 0.0 for name, parameter in model.named_parameters()}
    assert len(make_optimizer(model, Recipe(), 10).param_groups) == 1


def test_accumulated_batches_make_the_step_of_a_larger_one(few):
    whole, parts = without_batchnorm(), without_batchnorm()
    expected = fit(whole, few, epochs=2, batch_size=96, lr=0.1, **QUIET)
    history = fit(parts, few, epochs=2, batch_size=32, accumulate=3, lr=0.1, **QUIET)
    assert len(history.step_losses) == 4
    assert history.step_losses == pytest.approx(expected.step_losses, rel=1e-5)
    assert history.final.train_accuracy == expected.final.train_accuracy
    for mine, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_accumulation_counts_what_counts(few):
    """Batches in which other numbers of images count weigh as in one."""
    images, labels = few.train.tensors
    labels = labels.clone()
    labels[::3] = -100
    data = replace(few, train=torch.utils.data.TensorDataset(images, labels))
    whole, parts = without_batchnorm(), without_batchnorm()
    fit(whole, data, epochs=1, batch_size=96, **QUIET)
    fit(parts, data, epochs=1, batch_size=16, accumulate=6, **QUIET)
    for mine, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_a_norm(few):
    """Plain steps of length lr * clip_norm at most: with a tiny bound, of exactly that."""
    model, before = without_batchnorm(), without_batchnorm()
    fit(model, few, epochs=1, batch_size=192, lr=0.5, momentum=0, nesterov=False, weight_decay=0, warmup_epochs=0,
        schedule="constant", clip_norm=1e-3, **QUIET)
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.5 * 1e-3, rel=1e-3)


def test_cutmix_blends_boxes_and_labels_alike():
    torch.manual_seed(0)
    images, labels = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 10, 10).clone(), torch.arange(4)
    blended, shares = Classification(classes=tuple("abcd")).mixing(0, 1.0)(images, labels)
    for image, share in zip(blended, shares, strict=True):
        found = torch.stack([(image == k).float().mean() for k in range(4)])
        torch.testing.assert_close(found, share)
    assert (shares.max(1).values < 1).any()
    kinds = {"box" if set(one.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0} else "blend"
             for _ in range(20) for one in Classification(classes=tuple("abcd")).mixing(1.0, 1.0)(images, labels)[0]}
    assert kinds == {"box", "blend"}
    with pytest.raises(ValueError, match="cutmix=0.5 blends labels of whole images"):
        Segmentation(classes=tuple("abcd")).mixing(0, 0.5)


def test_what_is_frozen_does_not_move(few):
    model, before = tiny(dropout=0), tiny(dropout=0)
    fit(model, few, epochs=1, lr=0.1, freeze="backbone", **SHORT)
    moved = [not torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(),
                                                   strict=True)]
    names = [name for name, changed in zip(model.state_dict(), moved, strict=True) if changed]
    assert names == ["11.weight", "11.bias"]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert len(frozen_parameters(model, "0, 1", 10)) == 3
    with pytest.raises(ValueError, match=r"freeze='0,stem': Sequential has no 'stem'; its parts are 0, 1, 2"):
        frozen_parameters(model, "0,stem", 10)
    with pytest.raises(ValueError, match="leaves no parameter of Sequential to train"):
        frozen_parameters(model, "*", 10)
    with pytest.raises(ValueError, match="needs a classifier, a Linear layer or a convolution with 7 outputs"):
        frozen_parameters(model, "backbone", 7)


def test_the_backbone_has_a_rate_of_its_own(few):
    rates = []
    fit(tiny(), few, epochs=1, lr=0.1, backbone_lr=0.1, schedule="constant", warmup_epochs=0, **SHORT,
        watch=lambda run: rates.append({len(group["params"]): group["lr"] for group in run.optimizer.param_groups}))
    assert rates[0] == {8: pytest.approx(0.01), 2: pytest.approx(0.1)}
    model, before = tiny(), tiny()
    fit(model, few, epochs=1, lr=0.1, weight_decay=0, backbone_lr=0, **SHORT)
    assert torch.equal(model[0].weight, before[0].weight) and not torch.equal(model[-1].weight, before[-1].weight)


def test_classifiers_are_found():
    import lwcourse as lw
    assert classifier_names(lw.create_model("mobilenet_v2", 32), 32) == ["classifier.1"]
    convolutional = nn.Sequential(nn.Conv2d(3, 7, 1), nn.Conv2d(7, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert classifier_names(convolutional, 7) == ["1"]


def test_distillation_by_hand(few):
    torch.manual_seed(1)
    ours, theirs = torch.randn(5, 10), torch.randn(5, 10)
    task = Classification(classes=tuple("0123456789"))
    shares = (theirs / 4).softmax(1)
    expected = 16 * (shares * (shares.log() - (ours / 4).log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(task.distillation_loss(ours, theirs, 4.0), expected)
    teacher, pupil, alone = tiny(seed=2), tiny(), tiny()
    fit(teacher, few, epochs=4, lr=0.1, **SHORT)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    history = fit(pupil, few, epochs=2, teacher=teacher, distillation=1.0, **SHORT)
    assert history.settings["teacher"] == "Sequential" and teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    fit(alone, few, epochs=2, teacher=teacher, distillation=0.0, **SHORT)
    assert same_weights(alone, (plain := tiny())) is False and not same_weights(pupil, alone)
    fit(plain, few, epochs=2, **SHORT)
    assert same_weights(alone, plain)
    with pytest.raises(ValueError, match="has 4 outputs, but the data has 10 classes"):
        fit(tiny(), few, teacher=tiny(classes=4), **SHORT)


@pytest.mark.parametrize(("schedule", "expected"), [
    ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1]), ("linear", [0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
    ("poly:2", [0.5, 1, 1, 25 / 36, 16 / 36, 9 / 36, 4 / 36, 1 / 36]), ("cyclic", [0.5, 1, 1, 1, 0.8, 0.8, 0.6, 0.6]),
    ("steps:2:0.1", [0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]), ("steps:0.5:0.5", [0.5, 1, 0.25, 0.125, 1 / 16, 1 / 32, 1 / 64,
                                                                          1 / 128])])
def test_schedules_by_name(schedule, expected):
    share = share_by_name(schedule, 2, 2, 8)
    assert [share(step) for step in range(8)] == pytest.approx(expected)


def test_every_named_recipe_trains_and_has_a_source(few):
    for name, named in RECIPES.items():
        assert named.source and named.name == name
        published = named_recipe(name).recipe
        recipe = replace(published, epochs=6, batch_size=96, lr=min(1, 96 / published.batch_size) * published.lr,
                         warmup_epochs=0.5 if isinstance(published.schedule, str) else 0)
        history = fit(tiny(), few, recipe=recipe, **QUIET)
        assert len(history.epochs) == 6 and history.settings["optimizer"] == recipe.optimizer


def test_fit_takes_a_recipe_by_name_and_changes(few):
    one = fit(tiny(), few, recipe="finetune", epochs=1, batch_size=64, **QUIET)
    recipe = replace(RECIPES["finetune"].recipe, epochs=1, batch_size=64)
    assert without_time(fit(tiny(), few, recipe=recipe, **QUIET)) == without_time(one)
    assert one.settings["backbone_lr"] == 0.1
    with pytest.raises(ValueError, match="there is no recipe 'finetun'; did you mean 'finetune'?"):
        fit(tiny(), few, recipe="finetun")
    with pytest.raises(TypeError, match="a recipe has no 'learning_rate'; there are epochs, batch_size"):
        fit(tiny(), few, learning_rate=0.1)
    with pytest.raises(TypeError, match="a recipe has no 'weight_deca'; did you mean 'weight_decay'"):
        fit(tiny(), few, weight_deca=0.1)
    with pytest.raises(TypeError, match="recipe must be a Recipe or the name of one"):
        fit(tiny(), few, recipe={"lr": 0.1})


def test_another_optimizer_has_its_own_second_moment():
    assert changed(RECIPES["mobilevit"].recipe, {"optimizer": "rmsprop"}).second_moment == 0.9
    assert Recipe(optimizer="adamw").second_moment == 0.999


@pytest.mark.parametrize(("settings", "says"), [
    ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, rmsprop, got 'adam'"),
    ({"clip_norm": 0}, "clip_norm must be None, or a positive number, got 0"),
    ({"accumulate": 0}, "accumulate must be a whole number of at least 1, got 0"),
    ({"cutmix": -1}, "cutmix must be 0 .off., or at least 1e-6, got -1"),
    ({"freeze": None}, "freeze must be names of modules with commas between them"),
    ({"schedule": "steps:30"}, "schedule must be 'cosine', 'linear'.* got 'steps:30'"),
    ({"schedule": "steps:0:0.1"}, "schedule must be .* got 'steps:0:0.1'"),
    ({"schedule": "poly"}, "schedule must be .*'poly:0.9'.* got 'poly'"),
    ({"schedule": "poly:0"}, "schedule must be .* got 'poly:0'"),
    ({"distillation": 2}, "distillation must be between 0 and 1, got 2"),
    ({"temperature": 0}, "temperature must be at least 0.001, got 0"),
    ({"backbone_lr": -1}, "backbone_lr must be at least 0, got -1")])
def test_bad_settings_of_a_recipe_are_named(settings, says):
    with pytest.raises(ValueError, match=says):
        Recipe(**settings)
