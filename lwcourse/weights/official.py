"""Weights that torchvision and timm publish for networks that equal ours, by their own loaders and caches."""
import socket
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

from lwcourse.references import REFERENCES, Reference
from lwcourse.weights.trained import TrainedWeights, imagenet_classes

CLASSES = 1000
PATIENCE = 3.0  # seconds for a server's answer
SILENCE = 10.0  # seconds without a byte, after which a download is given up


def peers(network: str) -> list[Reference]:
    """The same network in torchvision or timm, unchanged, for which weights are published."""
    return [reference for reference in REFERENCES.get(network, ())
            if not reference.note and getattr(reference.build, "options", None) == {}
            and tags(*reference.label.split(" "))]


def tags(package: str, peer: str) -> list[str]:
    """The published weights of a network of torchvision or timm, the default one first; none needs a download."""
    if package == "torchvision":
        from torchvision.models import get_model_weights, list_models
        if peer not in list_models():
            return []
        found = get_model_weights(peer)
        return [found.DEFAULT.name, *(one.name for one in found if one is not found.DEFAULT)]
    if package == "timm":
        try:
            from timm.models import get_pretrained_cfg, list_pretrained
        except ImportError:
            return []
        found = [name.partition(".")[2] for name in list_pretrained(f"{peer}.*")]
        default = get_pretrained_cfg(peer)
        return sorted((tag for tag in found if get_pretrained_cfg(f"{peer}.{tag}").num_classes == 1000),
                      key=lambda tag: (default is None or tag != default.tag, tag))
    return []


def describe(network: str, reference: Reference, tag: str) -> TrainedWeights:
    package, peer = reference.label.split(" ")
    common = {"network": network, "name": f"{package}:{tag}", "arguments": reference.arguments}
    if package == "torchvision":
        from torchvision.models import get_model_weights
        weights = get_model_weights(peer)[tag]
        prepare, meta = weights.transforms(), weights.meta
        return TrainedWeights(
            source=weights.url, licence="BSD-3-Clause", top1=meta["_metrics"].get("ImageNet-1K", {}).get("acc@1"),
            size=prepare.crop_size[0], resize=prepare.resize_size[0], interpolation=prepare.interpolation.value,
            mean=tuple(prepare.mean), std=tuple(prepare.std), classes=tuple(meta["categories"]), **common)
    from timm.models import get_pretrained_cfg
    config = get_pretrained_cfg(f"{peer}.{tag}")
    size = (config.test_input_size or config.input_size)[-1]
    crop = config.test_crop_pct or config.crop_pct
    return TrainedWeights(
        source=f"{config.hf_hub_id or config.url}", licence=config.license or "", size=size,
        resize=int(size / crop), interpolation=config.interpolation, mean=tuple(config.mean), std=tuple(config.std),
        classes=imagenet_classes(), **common)


def state_of(reference: Reference, tag: str, ours: nn.Module) -> dict[str, Tensor]:
    """The weights under our names; `ours` is a network of ours with 1,000 classes, which gets them.

    Raises ConnectionError, with the file that is missing and its folder, where they are neither here nor to be had.
    """
    from lwcourse.compare import transfer_weights

    theirs = reference.build(CLASSES)
    theirs.load_state_dict(published(*reference.label.split(" "), tag))
    transfer_weights(theirs, ours, torch.randn(1, 3, *reference.size))
    return ours.state_dict()


def published(package: str, peer: str, tag: str) -> dict[str, Tensor]:
    """The published state of a network of torchvision or timm, from its cache or the network."""
    if package == "torchvision":
        from torchvision.models import get_model_weights
        weights = get_model_weights(peer)[tag]
        file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        here, server, where = file.is_file(), weights.url, f"the file is {file}"
    else:
        import timm
        from huggingface_hub import constants, try_to_load_from_cache
        from timm.models import get_pretrained_cfg
        repository = get_pretrained_cfg(f"{peer}.{tag}").hf_hub_id
        here = isinstance(try_to_load_from_cache(repository, "model.safetensors"), str)
        server, where = constants.ENDPOINT, f"{repository} on {constants.ENDPOINT}, kept in {constants.HF_HUB_CACHE}"
    missing = f"the weights {tag} of {package}'s {peer} are not on this machine, and cannot be fetched now: {where}"
    if not here and not answers(server, PATIENCE):  # the loaders themselves try for a minute
        raise ConnectionError(missing)
    try:
        if package == "torchvision":
            with _socket_timeout(SILENCE):
                return weights.get_state_dict(progress=False, check_hash=True)
        return timm.create_model(f"{peer}.{tag}", pretrained=True).state_dict()
    except OSError as error:
        raise ConnectionError(f"{missing} ({error})") from error


def answers(url: str, seconds: float) -> bool:
    """Whether a server answers for `url` within `seconds`, the look-up of its name included."""
    found = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=seconds):
                found.append(True)
        except (OSError, HTTPException):  # no network, no such host, no answer, an answer that is no HTTP
            pass

    asking = Thread(target=ask, daemon=True)  # a look-up that hangs heeds no timeout
    asking.start()
    asking.join(seconds)
    return bool(found)


@contextmanager
def _socket_timeout(seconds: float):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
