"""What each of the two processes does that `test_processes.py` starts by torchrun; they write into the folder given."""
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from sample_training import few_digits, tiny, without_batchnorm
from torch.utils.data import TensorDataset

from lwcourse.train import evaluate, fit
from lwcourse.train.processes import current_processes, joined

# 192 images in batches of 27: a last one of 3, too few for two processes.
CASES = {
    "uneven batches": {"epochs": 2, "batch_size": 27, "lr": 0.1},
    "everything": {"epochs": 2, "batch_size": 32, "accumulate": 3, "lr": 0.1, "ema": 0.8, "clip_norm": 0.5,
                   "label_smoothing": 0.1, "class_weights": [0.5] * 5 + [2.0] * 5},
}


def data(ignored: bool):
    few = few_digits()
    if not ignored:
        return few
    images, labels = few.train.tensors
    labels = labels.clone()
    labels[::3] = -100
    return replace(few, train=TensorDataset(images, labels))


def stopped(run) -> bool:
    return run.done_steps == 4


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with joined("cpu"):
        processes = current_processes()
        assert processes.count == 2
        for name, options in CASES.items():
            model = without_batchnorm(seed=processes.rank)  # the first process decides on the weights
            history = fit(model, data(name == "everything"), progress=False, device="cpu", **options)
            if processes.leads:
                torch.save(model.state_dict(), folder / f"{name}.pt")
                (folder / f"{name}.json").write_text(json.dumps(history.to_dict()))
        fit(without_batchnorm(), few_digits(), progress=False, device="cpu", checkpoint=folder / "stopped.pt",
            watch=stopped, **CASES["uneven batches"])
        model = tiny()
        fit(model, few_digits(), epochs=1, batch_size=64, progress=False, device="cpu", mixup=0.3)
        statistics = processes.gathered([buffer for buffer in model.buffers()])
        assert all(torch.equal(a, b) for a, b in zip(*statistics, strict=True))
        found = evaluate(model, few_digits(), batch_size=30, device="cpu")
        (folder / f"evaluated {processes.rank}.json").write_text(json.dumps([found.accuracy, found.loss,
                                                                            int(found.confusion.sum())]))
        if processes.leads:
            torch.save(model.state_dict(), folder / "evaluated.pt")
