"""Small networks of the chapters that have learned: their weights ship with the course.

`chNN.py` lists in NETWORKS those of chapter NN; `python -m lwcourse learn NAME` trains one and writes its file here, so
that it need not be taken on trust. A file holds the weights (safetensors, 300 kB at most) and, in its metadata, the
record: recipe, data, score, versions.
"""
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lwcourse.by_chapter import chapter_modules
from lwcourse.files import written_whole

MAX_BYTES = 300_000
ATTRIBUTE = "record"  # of a network that `load_learned` returns


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A network to be trained once, and to ship.

    name: the chapter's digits and a word, "05.se".
    build: makes the network, untrained.
    data, loading: what `lw.load_data` takes.
    settings: what `lw.fit` takes, its recipe and `seed` among them.
    other_seeds: more runs, of which only the scores are kept, behind that of `seed` in the record's `scores`.
    least: the score on the test images that is good enough to draw conclusions from, for the task's first metric.
    """
    name: str
    build: Callable[[], nn.Module]
    data: str
    loading: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    other_seeds: tuple[int, ...] = ()
    least: float = 0.8

    @property
    def path(self) -> Path:
        return Path(__file__).with_name("files") / f"{self.name}.safetensors"


def learned_networks() -> dict[str, Learned]:
    """All that ship, by name."""
    found = {}
    for module in chapter_modules(import_module(__name__)):
        for one in import_module(f"{__name__}.{module}").NETWORKS:
            found[one.name] = one
    return found


def find_learned(name: str) -> Learned:
    """Raises ValueError for a name that there is not, with those that are close."""
    known = learned_networks()
    if name not in known:
        close = get_close_matches(str(name), known, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(known) or 'none'}"
        raise ValueError(f"no network {name!r} ships with the course; {meant}")
    return known[name]


def load_learned(name: str) -> nn.Module:
    """A small network that has learned, in evaluation mode; its `record` is a dict that says how and how well.

    `record["score"]` is the accuracy (or mean IoU) on the test images when it was trained, `record["scores"]` has those
    of the other seeds too; lw.load_data(record["data"],
    **record["loading"]) gives the images. Raises ValueError for a name that there is not.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    one = find_learned(name)
    with safe_open(one.path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
    state = load_file(one.path)
    with torch.random.fork_rng(devices=[]):
        model = one.build()
    model.load_state_dict(state)
    setattr(model, ATTRIBUTE, record)
    return model.eval()


def learn(name: str, progress: bool = True) -> dict[str, Any]:
    """Train one anew and write its file, whole or not at all; the record.

    Raises ValueError, and writes nothing, where the score is below what the network is meant to reach, or the file
    would be too large to ship.
    """
    from safetensors.torch import save_file

    import lwcourse as lw

    one = find_learned(name)
    data = lw.load_data(one.data, **one.loading)
    seeds = [one.settings.get("seed", 0), *one.other_seeds]
    models, scores = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(one.build())
        history = lw.fit(models[-1], data, progress=progress, **{**one.settings, "seed": seed})
        metric = history.metric
        scores.append(history.final.test[metric])
    model, score = models[0], scores[0]
    if score < one.least:
        raise ValueError(f"{name} reached a test {metric} of {score:.3f}, and {one.least} is wanted")
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    size = sum(tensor.nbytes for tensor in state.values())
    if size > MAX_BYTES:
        raise ValueError(f"{name} has {size:,} bytes of weights, {MAX_BYTES:,} at most")
    versions = {"lwcourse": version("lwcourse"), "torch": str(torch.__version__)}
    record = {"name": name, "metric": metric, "score": score, "seeds": seeds, "scores": scores, "data": one.data,
              "loading": one.loading,
              "settings": settings_of(one), "versions": versions}
    one.path.parent.mkdir(exist_ok=True)
    with written_whole(one.path) as aside:
        save_file(state, aside, {"record": json.dumps(record)})
    return record


def settings_of(one: Learned) -> dict[str, Any]:
    """Its settings as a record holds them."""
    return {key: asdict(value) if is_dataclass(value) else value for key, value in one.settings.items()}
