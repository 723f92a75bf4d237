"""What fit and evaluate refuse, and that a refusal or an error leaves the model as it was."""
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sample_training import SHORT, few_digits, same_weights, tiny, without_time
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lwcourse.data import Data
from lwcourse.session import setup
from lwcourse.train import CyclicLinear, TrainingDiverged, enet_weights, evaluate, fit, fit_seeds, warmup_cosine


@pytest.fixture(scope="module")
def few() -> Data:
    return few_digits()


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def half_in_training() -> nn.Module:
    model = tiny()
    model[1].eval()
    return model


def refused(call, data, says: str, model: nn.Module | None = None, error: type = ValueError, **options) -> None:
    """The call raises, and the model has the weights, the modes and the device that it had."""
    model = half_in_training() if model is None else model
    before, modes_before = copy.deepcopy(model), modes(model)
    with pytest.raises(error, match=says):
        call(model, data, **options)
    assert same_weights(model, before) and modes(model) == modes_before
    assert {tensor.device for tensor in model.state_dict().values()} == {torch.device("cpu")}


# --------------------------------------------------------------------------------------------- devices

@pytest.mark.parametrize("device", ["meta", "xla", "hpu", "xpu", "privateuseone", torch.device("meta"), "cuda:99"])
def test_a_device_without_values_is_refused_before_anything_moves(few, device):
    for call in (fit, evaluate):
        refused(call, few, "is not available here; this machine has", device=device)


@pytest.mark.parametrize("device", [True, [], 3.5])
def test_what_is_no_device_is_named(few, device):
    for call in (fit, evaluate):
        refused(call, few, "device must be None, a torch.device or its name", device=device)


def test_a_model_on_meta_is_refused(few):
    partly = tiny()
    partly[-1].to("meta")
    for model in (tiny().to("meta"), partly):
        for call in (fit, evaluate):
            with pytest.raises(ValueError, match=r"on the meta device, which holds no values \((0|11).weight\)"):
                call(model, few)
    assert torch.equal(partly[0].weight, tiny()[0].weight)


def test_another_default_device_is_not_mixed_in(few):
    """A stand-in for "cuda": what were made there without a word would have no value."""
    options = {"epochs": 1, "mixup": 0.3, "ema": 0.9, "schedule": CyclicLinear(), "class_weights": [1.0] * 10, **SHORT}
    expected = fit(whole := tiny(), few, **options)
    model, weights, result = tiny(), enet_weights(few), evaluate(whole, few)
    torch.set_default_device("meta")
    try:
        history = fit(model, few, device="cpu", **options)
        found, counted = evaluate(model, few, device="cpu"), enet_weights(few)
        fit_seeds(lambda: copy.deepcopy(model), few, (0,), epochs=1, **SHORT)
        assert setup().type != "meta"
    finally:
        torch.set_default_device(None)
    assert without_time(history) == without_time(expected) and same_weights(model, whole)
    assert torch.equal(found.confusion, result.confusion) and torch.equal(counted, weights)


# ---------------------------------------------------------------------------------------- kinds of network

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten, self.linear, self.norm = nn.Flatten(), nn.LazyLinear(10), nn.LazyBatchNorm1d(affine=False)

    def forward(self, x):
        return self.norm(self.linear(self.flatten(x)))


def test_lazy_layers_are_named(few):
    for call in (fit, evaluate):
        for model in (Lazy(), nn.Sequential(tiny(), nn.LazyBatchNorm1d(affine=False))):
            with pytest.raises(ValueError, match="has lazy layers without shapes yet: run it once, then"):
                call(model, few)
    model = Lazy()
    model(few.train.tensors[0][:2])
    fit(model, few, epochs=1, **SHORT)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_scripted_traced_and_exported_networks(few):
    images = few.train.tensors[0][:2]
    scripted, plain = torch.jit.script(tiny()), tiny()
    assert without_time(fit(scripted, few, epochs=1, **SHORT)) == without_time(fit(plain, few, epochs=1, **SHORT))
    assert evaluate(scripted, few).loss == pytest.approx(evaluate(plain, few).loss)
    traced = torch.jit.trace(tiny().eval(), images)
    assert evaluate(traced, few).loss == pytest.approx(evaluate(tiny(), few).loss)
    for model in (traced, nn.Sequential(traced)):
        refused(fit, few, "was traced, which fixes its mode; fit takes the network before torch.jit.trace", model)
    exported = torch.export.export(tiny().eval(), (images,)).module()
    for call in (fit, evaluate):
        for model in (exported, nn.Sequential(exported, nn.Dropout())):
            refused(call, few, "has no training and evaluation mode .* before torch.export", model)


class Raising(nn.Module):
    def __init__(self, error: BaseException):
        super().__init__()
        self.linear, self.error = nn.Linear(256, 10), error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize("error", [AssertionError("size"), KeyError("size"), TypeError("size"), RuntimeError("size")])
def test_a_forward_that_raises_cannot_run_the_images(few, error):
    for call in (fit, evaluate):
        refused(call, few, r"Raising cannot run images of shape \(1, 16, 16\): .*size", Raising(error))


def test_ctrl_c_in_the_first_look_returns_the_history(few):
    model = Raising(KeyboardInterrupt())
    history = fit(model, few, epochs=1, ema=0.9, **SHORT)
    assert history.interrupted and history.step_losses == [] and not model.training
    refused(evaluate, few, "^$", model, error=KeyboardInterrupt)


# ------------------------------------------------------------------------------------------------ settings

NAN = float("nan")


@pytest.mark.parametrize(("options", "says"), [
    ({"amp": "yes"}, "amp must be None, True or False, got 'yes'"), ({"amp": 1}, "amp must be .* got 1"),
    ({"channels_last": "no"}, "channels_last must be None, True or False, got 'no'"),
    ({"nesterov": "no"}, "nesterov must be True or False, got 'no'"),
    ({"progress": "no"}, "progress must be True or False, got 'no'"),
    ({"resume": "no"}, "resume must be True or False, got 'no'"),
    ({"epochs": True}, "epochs must be a whole number .* got True"), ({"epochs": NAN}, "epochs .* got nan"),
    ({"epochs": np.float64(2)}, "epochs .* got 2.0"), ({"batch_size": "32"}, "batch_size .* got '32'"),
    ({"batch_size": 32.0}, "batch_size .* got 32.0"), ({"num_workers": True}, "num_workers .* got True"),
    ({"seed": True}, "seed .* got True"), ({"lr": 1e39}, "lr must be a positive number, got 1e.39"),
    ({"mixup": 1e-300}, "mixup must be 0 .off., or at least 1e-6, got 1e-300"), ({"mixup": NAN}, "mixup .* got nan"),
    ({"class_weights": "abcd"}, "class_weights must be 10 numbers, one a class, got 'abcd'"),
    ({"class_weights": ["a"] * 10}, "class_weights must be 10 numbers, one a class, got"),
    ({"class_weights": 3}, r"class_weights must be 10 numbers, one a class, got shape \(\)"),
    ({"class_weights": torch.ones(10, device="meta")}, "class_weights must be 10 numbers"),
    ({"class_weights": np.full(10, NAN)}, "class_weights must be finite"),
    ({"schedule": 0.1}, "schedule must be .*, or a function from the epoch to a share of lr.* got 0.1"),
    ({"schedule": "cosines"}, "schedule must be .cosine., .* got .cosines.")])
def test_bad_settings_are_named(few, options, says):
    refused(fit, few, says, **{**SHORT, **options})


@pytest.mark.parametrize(("options", "says"), [
    ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ({"batch_size": True}, "got True"), ({"batch_size": "a"}, "got 'a'"), ({"batch_size": NAN}, "got nan"),
    ({"num_workers": -1}, "num_workers must be a whole number of at least 0, got -1"),
    ({"channels_last": "no"}, "channels_last must be None, True or False, got 'no'")])
def test_bad_settings_of_evaluate_are_named(few, options, says):
    refused(evaluate, few, says, **options)


def test_numbers_of_numpy_are_numbers(few, tmp_path):
    plain = {"epochs": 2, "seed": 3, "batch_size": 32, "lr": 0.25, "momentum": 0.5, "nesterov": True, "mixup": 0.5,
             "weight_decay": 0.125, "label_smoothing": 0.25, "ema": 0.5, "warmup_epochs": 0.5, "num_workers": 0,
             "amp": False, "channels_last": True, "progress": False}
    kinds = {int: np.int64, float: np.float32, bool: np.bool_}
    ours = {name: kinds[type(value)](value) for name, value in plain.items()}
    path = tmp_path / "run.pt"
    history = fit(tiny(), few, checkpoint=path, **ours)
    assert without_time(history) == without_time(fit(tiny(), few, **plain))
    assert fit(tiny(), few, checkpoint=path, resume=np.bool_(True), **plain) == history
    evaluate(tiny(), few, batch_size=np.int32(7), num_workers=np.int64(0), channels_last=np.bool_(False))


@pytest.mark.parametrize("share", [NAN, None, float("inf"), -1, "0.5", True, [1.0], 1j, 1e308, torch.ones(2)])
def test_a_schedule_that_gives_no_share_is_named_before_the_first_step(few, share):
    says = r"schedule\(0.666667\), the share of lr at step 5 of 6, must be .* got "
    refused(fit, few, says, epochs=1, schedule=lambda epoch: share if epoch > 0.6 else 1.0, **SHORT)


def test_a_schedule_that_fails_is_named(few):
    refused(fit, few, r"schedule\(0\).* at step 1 of 6, failed: ZeroDivisionError", epochs=1,
            schedule=lambda epoch: 1 / epoch, **SHORT)


def test_a_schedule_may_give_any_kind_of_number(few):
    losses = [fit(tiny(), few, epochs=1, schedule=lambda epoch, kind=kind: kind(0.5), **SHORT).step_losses
              for kind in (float, np.float32, torch.tensor)]
    assert losses[0] == losses[1] == losses[2]
    assert fit(tiny(), few, epochs=1, schedule=lambda epoch: 0, **SHORT).final.lr == 0


def test_schedules_check_their_numbers():
    for options in ({"cycle": "5"}, {"cycle": 2.5}, {"lowest": NAN}, {"lowest": "a"}, {"warmup": -1}, {"warmup": 0.5},
                    {"halve_at": ("a",)}, {"halve_at": 51}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be .* got"):
            CyclicLinear(**options)
    for step, warmup, total in ((5, 4, 4), (4, 4, 4), (-1, 0, 4)):
        with pytest.raises(ValueError, match=f"step {step} is in no run of 4 steps"):
            warmup_cosine(step, warmup, total)


@pytest.mark.parametrize(("seeds", "says"), [
    (3, "seeds must be a sequence"), (None, "seeds must be a sequence"), ("012", "seeds must be a sequence"),
    (("a",), "each of seeds must be a whole number of at least 0, got 'a'"), ((0, True), "got True"),
    ((0, 1.5), "got 1.5"), ((0, -1), "got -1"), (np.array([]), "seeds is empty")])
def test_bad_seeds_are_named_before_the_first_run(few, seeds, says):
    built = []
    with pytest.raises(ValueError, match=says):
        fit_seeds(lambda: built.append(1) or tiny(), few, seeds, **SHORT)
    assert not built


def test_fit_seeds_takes_arrays_and_refuses_what_builds_no_new_model(few):
    assert len(fit_seeds(tiny, few, np.arange(2), epochs=1, **SHORT)) == 2
    for model in (tiny(), None, "mobilenet_v2"):
        with pytest.raises(TypeError, match="make_model must be a function that builds a model"):
            fit_seeds(model, few)
    model = tiny()
    with pytest.raises(ValueError, match="make_model must build a new model each time"):
        fit_seeds(lambda: model, few, epochs=1, **SHORT)


@pytest.mark.parametrize("seed", ["a", -1, 2**32, NAN, True, None, 1.5])
def test_setup_names_a_bad_seed_and_seeds_nothing(seed):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to 4294967295, got"):
        setup(seed)
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------------------------------------------- data

class Yields(Dataset):
    """Five samples that a function makes of their index."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.sample(index)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(1, 16, 16), 0)])


class StreamOfKnownLength(Stream):
    def __len__(self):
        return 1


IMAGE = torch.zeros(1, 16, 16)


@pytest.mark.parametrize(("dataset", "says"), [
    (TensorDataset(torch.zeros(5, 1, 16, 16), torch.arange(5), torch.arange(5)),
     "must yield pairs, .image, label., and TensorDataset yields 3 values"),
    (Yields(lambda index: {"image": IMAGE, "label": 0}), "Yields yields a dict"),
    (Yields(lambda index: None), "Yields yields a NoneType"),
    (Stream(), "must have a length and an n-th image.* got Stream"),
    (StreamOfKnownLength(), "must have a length and an n-th image.* got StreamOfKnownLength"),
    (Yields(lambda index: (IMAGE, "cat")), "a label must be a class number, or a map of them, got 'cat'"),
    (Yields(lambda index: (IMAGE, None)), "a label must be a class number, .* got None"),
    (Yields(lambda index: (IMAGE, 0.5)), "labels must be of type torch.int64.* got torch.float32"),
    (Yields(lambda index: (IMAGE, np.int32(1))), "labels must be of type torch.int64.* got torch.int32"),
    (Yields(lambda index: (IMAGE, torch.eye(10)[0])), r"got shape \(10,\); of a one-hot vector, take argmax"),
    (Yields(lambda index: (IMAGE, torch.tensor([1]))), r"a label must be a class number, .* got shape \(1,\)"),
    (Yields(lambda index: (IMAGE, np.zeros((4, 4), dtype=int))), r"a label map must be .* got \(4, 4\)"),
    (Yields(lambda index: (IMAGE.to("meta"), 0)), "images are on the meta device"),
    (Yields(lambda index: (IMAGE, 5 * index)), "labels must be between 0 and 9.* got (10|15|20)")])
def test_data_that_cannot_be_learned_is_named(few, dataset, says):
    refused(fit, replace(few, train=dataset), says, **{**SHORT, "batch_size": 2})
    refused(fit, replace(few, test=dataset), says, **SHORT)
    refused(evaluate, dataset, says)


def test_targets_before_their_transform_are_not_taken_for_labels(few):
    class FromOne(Yields):
        targets, target_transform = [1, 2, 3, 4, 10], staticmethod(lambda label: label - 1)

    dataset = FromOne(lambda index: (IMAGE, FromOne.targets[index] - 1))
    assert evaluate(tiny(), dataset).confusion.sum() == 5


@pytest.mark.parametrize(("value", "kind"), [(NAN, "NaN"), (float("inf"), "infinite values")])
def test_images_that_are_not_finite_are_named(few, value, kind):
    images = few.train.tensors[0].clone()
    images[5, 0, 3, 3] = value
    spoilt, says = TensorDataset(images, few.train.tensors[1]), f"1 of the .* images .* hold {kind}"
    model = tiny()
    with pytest.raises(TrainingDiverged, match=rf"1 of the 32 images of step \d of 6 hold {kind}") as error:
        fit(model, replace(few, train=spoilt), epochs=1, **SHORT)
    assert "lr" not in str(error.value) and same_weights(model, tiny())
    refused(fit, replace(few, test=spoilt), says, epochs=1, **SHORT)
    refused(evaluate, spoilt, says)


def test_a_loss_that_is_nan_from_the_start_is_not_blamed_on_lr(few):
    class Divides(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = tiny()

        def forward(self, x):
            return self.net(x) / (0.0 if self.training else 1.0)

    spoilt = tiny()
    spoilt[6].bias.data[0] = NAN
    for model, says in ((Divides(), "no step was taken yet, so lr is not the cause"),
                        (spoilt, "the network came with NaN or infinite values in 6.bias")):
        with pytest.raises(TrainingDiverged, match=f"the loss became nan at step 1 of 6; {says}"):
            fit(model, few, epochs=1, **SHORT)


def test_a_last_step_that_diverges_is_told_and_undone(few):
    model = tiny()
    with pytest.raises(TrainingDiverged, match="the test loss became nan in epoch 1; try a smaller lr"):
        fit(model, few, epochs=1, lr=1e30, warmup_epochs=0, batch_size=192, progress=False)
    assert same_weights(model, tiny()) and not model.training


def test_an_error_leaves_the_last_complete_epoch(few):
    """An image that cannot be read in the second epoch, without and with an average."""
    class Unreadable(Dataset):
        def __init__(self, after):
            self.after = after

        def __len__(self):
            return len(few.train)

        def __getitem__(self, index):
            self.after -= 1
            if self.after == 0:
                raise OSError("an image is gone")
            return few.train[index]

    for options in ({}, {"ema": 0.7}):
        model, one = half_in_training(), half_in_training()
        with pytest.raises(OSError, match="an image is gone"):
            fit(model, replace(few, train=Unreadable(300)), epochs=2, schedule=CyclicLinear(), **SHORT, **options)
        fit(one, few, epochs=1, schedule=CyclicLinear(), **SHORT, **options)
        assert same_weights(model, one) and modes(model) == modes(half_in_training())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_enet_weights_names_bad_input(few):
    for c in (float("nan"), "a", None, True):
        with pytest.raises(ValueError, match="c must be above 1"):
            enet_weights(few, c)
    with pytest.raises(TypeError, match="data must be a Data"):
        enet_weights(few.train)
    void = TensorDataset(few.train.tensors[0], torch.full((192,), -100))
    with pytest.raises(ValueError, match="every image is labelled -100"):
        enet_weights(replace(few, train=void))
