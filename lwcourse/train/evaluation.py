"""Testing a network, and weights for classes that are rare."""
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lwcourse.data import Data
from lwcourse.tasks import Classification, Segmentation
from lwcourse.tasks.classification import Evaluation
from lwcourse.tasks.labels import count_outputs, labelled_sample
from lwcourse.train.device import on_cpu, pick_device, placed, random_state_kept
from lwcourse.train.input import Batches
from lwcourse.train.processes import current_processes
from lwcourse.train.run import measure
from lwcourse.train.state import modes_kept
from lwcourse.train.validate import (
    check_flags,
    check_loading,
    check_network,
    check_types,
    count_images,
    is_number,
    plain,
)


def evaluate(model: nn.Module, data: Data | Dataset, *, batch_size: int = 256,
             channels_last: bool | None = None, device: str | torch.device | None = None,
             num_workers: int = 0) -> Evaluation:
    """Test `model` on `data.test`, or on a data set of (image, label), in evaluation mode and float32.

    A label is a class or a map of classes; pixels labelled `data.ignore_index` do not count (-100 in a plain
    data set, which is PyTorch's custom).
    Device and memory layout are chosen as in `fit`; the model is left as it was, its mode included.
    Raises ValueError for a bad setting, when `data` is empty, has no label that counts, holds NaN or does not fit
    the model.
    """
    check_types(model, data, (Data, Dataset))
    check_network(model, "evaluate")
    batch_size, num_workers, channels_last = plain(batch_size), plain(num_workers), plain(channels_last)
    check_loading(batch_size, num_workers)
    check_flags(optional=("channels_last",), channels_last=channels_last)
    device = pick_device(device)
    channels_last = device.type in ("cpu", "cuda") if channels_last is None else channels_last
    dataset = data.test if isinstance(data, Data) else data
    if count_images(dataset, "data") == 0:
        raise ValueError("there are no images to evaluate on")
    processes = current_processes()
    test = Batches(dataset, batch_size, device=device, num_workers=num_workers, processes=processes)
    with random_state_kept(device), modes_kept(model), placed(model, device, channels_last) as place:
        with on_cpu():
            sample = data.task.sample(dataset) if isinstance(data, Data) else labelled_sample(dataset)
        if isinstance(data, Data):
            task = data.task
            task.check(model, dataset, sample, place)
        else:  # as many classes as the model has outputs
            kind = Segmentation if sample[1].ndim else Classification
            task = kind(classes=tuple(map(str, range(count_outputs(model, sample, place)))))
            task.check_labels(dataset, sample)
        return task.evaluation(*measure(model, task, test, place, processes))


def enet_weights(data: Data, c: float = 1.02) -> Tensor:
    """Weights for the loss that favour rare classes: 1 / ln(c + share of the training pixels), (classes,).

    For data without label maps, shares of the training images. A class that does not occur has the largest
    weight, 1 / ln(c). Source: Paszke et al. 2016 (ENet), https://arxiv.org/abs/1606.02147, section 5.2.
    Raises TypeError unless `data` is a Data, ValueError unless c is a number above 1 and a label counts.
    """
    if not isinstance(data, Data):
        raise TypeError(f"data must be a Data, such as lw.load_data('digits'), got {type(data).__name__}")
    if not is_number(plain(c), 1) or c == 1:
        raise ValueError(f"c must be above 1, or a weight could be negative, got {c!r}")
    counts, task = torch.zeros(data.num_classes, dtype=torch.long, device="cpu"), data.task
    here = torch.device("cpu")
    with random_state_kept(here):
        for _, labels in Batches(data.train, 64, device=here).in_order():
            task.check_targets(labels)
            counts += torch.bincount(labels[labels != data.ignore_index], minlength=data.num_classes).cpu()
    if not counts.any():
        raise task.nothing_counts()
    return 1 / torch.log(c + counts / counts.sum())
