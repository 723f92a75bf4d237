"""How a network is trained: `Recipe`, and the recipes that the course knows by name."""
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from lwcourse.train.schedules import check_schedule
from lwcourse.train.validate import LARGEST, is_number, is_whole, plain

OPTIMIZERS = ("sgd", "adamw", "rmsprop")
SECOND_MOMENT = {"sgd": 0.0, "adamw": 0.999, "rmsprop": 0.9}
TINY, BELOW_ONE = sys.float_info.min, 1 - 1e-9


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained, apart from the network, the data and the machine. Raises ValueError for a bad value.

    epochs: passes over the training images.
    batch_size: images that go through the network at once, over all processes; `accumulate` such batches make one
        step of the optimiser.
    optimizer: "sgd" (with `momentum`, Nesterov's if `nesterov`), "adamw" (`momentum` is its first beta, `second_moment`
        its second) or "rmsprop" (`second_moment` is the decay of its mean square). `epsilon` belongs to the last two.
    lr: the peak of the learning rate.
    weight_decay: acts on every parameter, or, unless `decay_norms`, on those of two dimensions or more: not on biases
        and normalisation.
    clip_norm: gradients whose norm, over all parameters, is larger are scaled down to it.
    schedule: what the learning rate does once it has climbed to its peak over `warmup_epochs` (a fraction is fine):
        "cosine" (falls to 0), "linear" (falls to 0), "poly:0.9" (the power 0.9 of "linear"), "constant",
        "steps:30:0.1" (times 0.1 every 30 epochs), "cyclic" (ESPNetv2's: `CyclicLinear()`).
        Or a function from the epoch (2.5 in the middle of the third) to a share of `lr`, such as `CyclicLinear()`; it
        is asked for the shares of all steps before the first, and `warmup_epochs` is not used then.
    label_smoothing: share of each target that is spread evenly over all classes (Szegedy et al. 2016).
    mixup, cutmix: alpha of Beta(alpha, alpha), from which the share of two blended images is drawn (Zhang et al. 2018),
        or the area of the box that one gets of the other (Yun et al. 2019); 0 is off. With both, each batch gets one.
    ema: decay of an exponential moving average of weights and BatchNorm statistics, which spans some 1 / (1 - decay)
        steps. The average is what is tested and kept. None: there is no average.
    freeze: what does not learn: names of modules, as "stem,stages.0", or "backbone", all but the classifier.
    backbone_lr: the learning rate of all but the classifier, as a share of `lr`.
    distillation: with a teacher, the share of the loss that is about the teacher's outputs, at `temperature`
        (Hinton et al. 2015).
    """
    epochs: int = 3
    batch_size: int = 64
    accumulate: int = 1
    optimizer: str = "sgd"
    lr: float = 0.02
    momentum: float = 0.9
    nesterov: bool = True
    second_moment: float | None = None
    epsilon: float = 1e-8
    weight_decay: float = 1e-4
    decay_norms: bool = True
    clip_norm: float | None = None
    schedule: str | Callable[[float], float] = "cosine"
    warmup_epochs: float = 0.5
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float | None = None
    freeze: str = ""
    backbone_lr: float = 1.0
    distillation: float = 0.5
    temperature: float = 4.0

    def __post_init__(self):
        for one in fields(self):
            object.__setattr__(self, one.name, plain(getattr(self, one.name)))
        if self.schedule is None:
            object.__setattr__(self, "schedule", "cosine")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if not isinstance(self.freeze, str):
            raise ValueError(f"freeze must be names of modules with commas between them, or 'backbone', got "
                             f"{self.freeze!r}")
        check_schedule(self.schedule)
        for name, (right, allowed) in self._rules().items():
            if not right:
                raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        if self.second_moment is None:
            object.__setattr__(self, "second_moment", SECOND_MOMENT[self.optimizer])

    def _rules(self) -> dict[str, tuple[bool, str]]:
        """Of each setting, whether it is right, and what would be."""
        def number(name: str, least: float, most: float = sys.float_info.max) -> bool:
            return is_number(getattr(self, name), least, most)

        def flag(name: str) -> bool:
            return isinstance(getattr(self, name), bool)

        whole = {name: (is_whole(getattr(self, name), 1), "a whole number of at least 1")
                 for name in ("epochs", "batch_size", "accumulate")}
        all_warmup = whole["epochs"][0] and number("warmup_epochs", 0) and self.warmup_epochs >= self.epochs
        blend = "0 (off), or at least 1e-6"
        return whole | {
            "lr": (number("lr", TINY, LARGEST), "a positive number"),
            "momentum": (number("momentum", 0, BELOW_ONE), "at least 0 and below 1"),
            "nesterov": (flag("nesterov"), "True or False"),
            "decay_norms": (flag("decay_norms"), "True or False"),
            "second_moment": (self.second_moment is None or number("second_moment", 0, BELOW_ONE),
                              "at least 0 and below 1"),
            "epsilon": (number("epsilon", 0, LARGEST), "at least 0"),
            "weight_decay": (number("weight_decay", 0, LARGEST), "at least 0"),
            "clip_norm": (self.clip_norm is None or number("clip_norm", TINY, LARGEST), "None, or a positive number"),
            "label_smoothing": (number("label_smoothing", 0, 1), "between 0 and 1"),
            "warmup_epochs": (number("warmup_epochs", 0) and not all_warmup,
                              f"at least 0 and below epochs={self.epochs}"),
            "mixup": (self.mixup == 0 or number("mixup", 1e-6, LARGEST), blend),
            "cutmix": (self.cutmix == 0 or number("cutmix", 1e-6, LARGEST), blend),
            "ema": (self.ema is None or number("ema", TINY, BELOW_ONE), "None, or between 0 and 1"),
            "backbone_lr": (number("backbone_lr", 0, LARGEST), "at least 0"),
            "distillation": (number("distillation", 0, 1), "between 0 and 1"),
            "temperature": (number("temperature", 1e-3, 1e6), "at least 0.001"),
        } | ({"nesterov": (self.momentum != 0, "False when momentum is 0")}
             if self.nesterov is True and self.optimizer == "sgd" else {})


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings. Raises TypeError for a name that is none, with those that are close."""
    known = [one.name for one in fields(Recipe)]
    for name in changes:
        if name not in known:
            raise TypeError(f"a recipe has no {name!r}; {closest(name, known)}")
    second = {} if "optimizer" not in changes or "second_moment" in changes else {"second_moment": None}
    return replace(recipe, **second, **changes)


def closest(name: str, known: list[str]) -> str:
    """What may have been meant, or all that there is."""
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(known)}"


@dataclass(frozen=True, kw_only=True)
class NamedRecipe:
    """A recipe with a name: `loading` are options of `load_data` that go with it, `source` says who published it, and
    `differs` what of it the loop does in another way, or does not do."""
    name: str
    recipe: Recipe
    loading: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    differs: str = ""


def named_recipe(name: str) -> NamedRecipe:
    """A recipe by its name. Raises ValueError for an unknown one, with those that are close."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; {closest(str(name), list(RECIPES))}")
    return RECIPES[name]


def _published(name: str, source: str, differs: str = "", loading: Mapping[str, Any] | None = None,
               **settings: Any) -> NamedRecipe:
    return NamedRecipe(name=name, source=source, differs=differs, loading={"image_size": 224, **(loading or {})},
                       recipe=Recipe(**{"nesterov": False, "warmup_epochs": 0, **settings}))


ESPNETS = ("Adam with L2 regularisation there, AdamW here; their epoch goes through the images in five sizes; their "
           "classes are weighted, as fit(class_weights=enet_weights(data, c=1.1)) does")

RECIPES = {one.name: one for one in (
    NamedRecipe(name="quick", recipe=Recipe(), source="the course: some minutes on a laptop"),
    NamedRecipe(name="finetune", source="the course: from trained weights to other classes",
                recipe=Recipe(epochs=5, batch_size=32, lr=0.01, backbone_lr=0.1, label_smoothing=0.1,
                              warmup_epochs=0.5)),
    NamedRecipe(name="cifar", source="He et al. 2016, section 4.2, for 164 epochs; the schedule is Loshchilov and "
                "Hutter's (2017)", recipe=Recipe(epochs=164, batch_size=128, lr=0.1, weight_decay=1e-4, warmup_epochs=1,
                                                 nesterov=False)),
    _published("efficientnet", "Tan and Le 2019, arXiv 1905.11946, section 5.2, which the official EfficientNet-Lite "
               "follows", epochs=350, batch_size=4096, optimizer="rmsprop", lr=0.256, schedule="steps:2.4:0.97",
               warmup_epochs=5, weight_decay=1e-5, epsilon=0.0316, ema=0.9999, label_smoothing=0.1,
               loading={"augment": "rand"},
               differs="AutoAugment in the paper, RandAugment here; no stochastic depth; warm-up, average and "
               "smoothing are those of the released code, tensorflow/tpu, models/official/efficientnet; its epsilon "
               "of 0.001 is added inside the root, so that 0.0316 outside stands for it"),
    _published("mobilenet_v1", "Howard et al. 2017, arXiv 1704.04861, which gives no numbers: those of "
               "tensorflow/models, research/slim/nets/mobilenet_v1_train.py",
               epochs=200, batch_size=64, lr=0.045, momentum=0,
               schedule="steps:2.5:0.94", weight_decay=4e-5,
               differs="the script has no last epoch (200 take the rate to 1/140); its depthwise weights do not decay"),
    _published("mobilenet_v2", "Sandler et al. 2018, arXiv 1801.04381, section 6.1, on one GPU: tensorflow/models, "
               "research/slim/nets/mobilenet/README.md, with the defaults of research/slim/train_image_classifier.py",
               epochs=412, batch_size=96, optimizer="rmsprop", lr=0.045, schedule="steps:2.5:0.98",
               epsilon=1.0, weight_decay=4e-5, label_smoothing=0.1, ema=0.9999,
               differs="5.5 million steps are 412 epochs; the paper has 16 asynchronous workers and lowers the rate "
               "each epoch; PyTorch's RMSProp adds epsilon outside the root"),
    _published("eca", "Wang et al. 2020, arXiv 1910.03151, section 4.1, for MobileNetV2, and BangguWu/ECANet, "
               "light_main.py; triplet attention trains alike (arXiv 2010.03045; landskape-ai/triplet-attention, "
               "scripts/train_imagenet_mobilenetv2_triplet_attention.sh)", epochs=400, batch_size=96, lr=0.045,
               schedule="steps:1:0.98", weight_decay=4e-5),
    _published("mobilenet_v3", "Howard et al. 2019, arXiv 1905.02244, section 6.1.1", epochs=600, batch_size=4096,
               optimizer="rmsprop", lr=0.1, schedule="steps:3:0.99", weight_decay=1e-5, epsilon=0.0316, ema=0.9999,
               differs="the paper gives neither the number of epochs nor epsilon; 0.0316, outside the root, is that of "
               "torchvision, references/classification/train.py"),
    _published("shufflenet", "Zhang et al. 2018, arXiv 1707.01083, section 4 (V2 trains alike: arXiv 1807.11164, "
               "section 4; so does the network found by Guo et al. 2020, arXiv 1904.00420, with "
               "label_smoothing=0.1: megvii-model/ShuffleNet-Series, OneShot/train.py)",
               epochs=240, batch_size=1024, lr=0.5, schedule="linear", weight_decay=4e-5,
               differs="the papers augment less in scale; 3e5 steps are 240 epochs; the released code spares norms "
               "(decay_norms=False)"),
    _published("ghostnet", "Han et al. 2020, arXiv 1911.11907, section 4.2.2, which takes ShuffleNet's setting with "
               "another rate", epochs=240, batch_size=1024, lr=0.4, schedule="linear", weight_decay=4e-5),
    _published("se", "Hu et al. 2018, arXiv 1709.01507, section 6.1", epochs=100, batch_size=1024, lr=0.6,
               schedule="steps:30:0.1", weight_decay=1e-4),
    _published("resnet", "torchvision, references/classification/train.py: its defaults, on 8 GPUs. He et al. 2016, "
               "arXiv 1512.03385, section 3.4, lower the rate when the error stops falling. SA-Net (arXiv 2102.00240; "
               "wofmanaf/SA-Net, main.py) and triplet attention in ResNets train alike",
               epochs=90, batch_size=256, lr=0.1, schedule="steps:30:0.1", weight_decay=1e-4),
    _published("resnet_d", "He et al. 2019, arXiv 1812.01187, and GluonCV's log of resnet50_v1d (dmlc/web-data, "
               "gluoncv/logs/classification/imagenet); with mixup=0.2 they train for 200 epochs",
               epochs=120, batch_size=1024, lr=0.4, schedule="cosine", warmup_epochs=5, weight_decay=1e-4,
               nesterov=True, decay_norms=False, label_smoothing=0.1,
               differs="colours are not changed; whether the last scale of each block starts at 0 is the network's "
               "own affair"),
    _published("addernet", "Chen et al. 2020, arXiv 1912.13200, and huawei-noah/AdderNet, main.py: ResNet-20 on "
               "CIFAR", epochs=400, batch_size=256, lr=0.1, schedule="cosine", weight_decay=5e-4,
               loading={"image_size": 32}),
    _published("peleenet", "Wang et al. 2018, arXiv 1804.06882, and Robert-JunWang/PeleeNet, main.py: its defaults",
               epochs=120, batch_size=256, lr=0.1, schedule="cosine", weight_decay=1e-4),
    _published("parnet", "Goyal et al. 2021, arXiv 2110.07641, and imankgoyal/NonDeepNetworks, "
               "imagenet/train_models.sh (S and M; L and XL with erasing=0.4)", epochs=120, batch_size=1024, lr=0.001,
               schedule="cosine", weight_decay=1e-4, nesterov=True, decay_norms=False, label_smoothing=0.1, ema=0.9999,
               loading={"augment": "rand", "erasing": 0.2},
               differs="the rate falls to 0, not to 1e-5, where the script stays for 10 epochs more; the script says "
               "0.001, and the folder of its run of XL is named after a rate of 0.1"),
    _published("pp_lcnet", "Cui et al. 2021, arXiv 2109.15099, and PaddleClas, "
               "ppcls/configs/ImageNet/PPLCNet/PPLCNet_x1_0.yaml", epochs=360, batch_size=2048, lr=0.8,
               schedule="cosine", warmup_epochs=5, weight_decay=3e-5, label_smoothing=0.1),
    _published("googlenet", "BVLC/caffe, models/bvlc_googlenet: readme.md and quick_solver.prototxt (Szegedy et al. "
               "2015, arXiv 1409.4842, section 6, give neither rate nor batch)",
               epochs=60, batch_size=32, lr=0.01, schedule="poly:0.5", weight_decay=2e-4,
               differs="Caffe's crops have one size; its network has no BatchNorm"),
    _published("inception_v3", "Szegedy et al. 2016, arXiv 1512.00567, section 8; Inception-v4 and Inception-ResNet "
               "train alike (arXiv 1602.07261, section 4), on 20 replicas", epochs=100, batch_size=1600,
               optimizer="rmsprop", lr=0.045, schedule="steps:2:0.94", epsilon=1.0, clip_norm=2.0,
               label_smoothing=0.1, weight_decay=4e-5, ema=0.9999, loading={"image_size": 299},
               differs="the paper runs 50 replicas of batch 32; weight decay and the span of the average are "
               "those of the released code, tensorflow/models, research; PyTorch's RMSProp adds epsilon outside "
               "the root"),
    _published("espnet_v2", "Mehta et al. 2019, arXiv 1811.11431, and sacmehta/ESPNetv2, imagenet/main.py",
               epochs=300, batch_size=512, lr=0.5, schedule="cyclic", weight_decay=4e-5, nesterov=True),
    _published("espnet", "Mehta et al. 2018, arXiv 1803.06815, and sacmehta/ESPNet, train/main.py, on Cityscapes: "
               "ESPNet-C (ESPNet, with batches of 6, starts from a trained ESPNet-C)", epochs=300, batch_size=12,
               optimizer="adamw", lr=5e-4, schedule="steps:100:0.5", weight_decay=5e-4,
               loading={"image_size": (512, 1024)}, differs=ESPNETS),
    _published("espnet_v2_seg", "Mehta et al. 2019, arXiv 1811.11431, and sacmehta/ESPNetv2, segmentation/main.py and "
               "train_utils.py, on Cityscapes", epochs=300, batch_size=10, optimizer="adamw", lr=5e-4,
               schedule="poly:0.9", weight_decay=5e-4, loading={"image_size": (512, 1024)}, differs=ESPNETS),
    _published("fast_scnn", "Poudel et al. 2019, arXiv 1902.04502, section 4.1, on Cityscapes", epochs=1000,
               batch_size=12, lr=0.045, schedule="poly:0.9", weight_decay=4e-5, loading={"image_size": (1024, 2048)},
               differs="the paper's depthwise weights do not decay; it changes colours too; its auxiliary losses need "
               "the network's auxiliary=True"),
    _published("lraspp", "torchvision, references/segmentation: README.md and the defaults of train.py, on 8 GPUs, on "
               "COCO's images with VOC's classes", epochs=30, batch_size=32, lr=0.01, schedule="poly:0.9",
               weight_decay=1e-6, loading={"image_size": (480, 480)},
               differs="torchvision's backbone is a trained classifier"),
    _published("condensenet", "Huang et al. 2018, arXiv 1711.09224, section 4.1", epochs=120, batch_size=256, lr=0.1,
               schedule="cosine", weight_decay=1e-4, nesterov=True,
               differs="group lasso and condensation are the network's own affair, not the recipe's"),
    _published("hrnet", "Wang et al. 2020, arXiv 1908.07919, appendix; the released code halves batch and rate",
               epochs=100, batch_size=256, lr=0.1,
               schedule="steps:30:0.1", weight_decay=1e-4, nesterov=True),
    _published("resnest", "Zhang et al. 2022, arXiv 2004.08955, section 5.1", epochs=270, batch_size=8192, lr=3.2,
               schedule="cosine", warmup_epochs=5, weight_decay=1e-4, decay_norms=False, label_smoothing=0.1, mixup=0.2,
               loading={"augment": "rand"},
               differs="AutoAugment in the paper, RandAugment here; no DropBlock"),
    _published("convnext", "Liu et al. 2022, arXiv 2201.03545, Table 5", epochs=300, batch_size=4096,
               optimizer="adamw", lr=4e-3, schedule="cosine", warmup_epochs=20, weight_decay=0.05, decay_norms=False,
               label_smoothing=0.1, mixup=0.8, cutmix=1.0, ema=0.9999, loading={"augment": "rand", "erasing": 0.25}),
    _published("mobilevit", "Mehta and Rastegari 2022, arXiv 2110.02178, section 4.1", epochs=300, batch_size=1024,
               optimizer="adamw", lr=0.002, schedule="cosine", warmup_epochs=2.4, weight_decay=0.01,
               label_smoothing=0.1, ema=0.9995, loading={"image_size": 256},
               differs="the average is that of apple/ml-cvnets, config/classification/imagenet/mobilevit.yaml; the "
               "rate climbs from 0 and falls to 0, not from and to 0.0002; batches have one image size"),
    _published("levit", "Graham et al. 2021, arXiv 2104.01136, section 5.1 (DeiT's setting, arXiv 2012.12877, Table 9)",
               epochs=1000, batch_size=1024, optimizer="adamw", lr=1e-3, schedule="cosine", warmup_epochs=5,
               weight_decay=0.025, decay_norms=False, label_smoothing=0.1, mixup=0.8, cutmix=1.0,
               loading={"augment": "rand", "erasing": 0.25},
               differs="distillation from RegNetY-16GF needs --teacher; images are not repeated in a batch; the "
               "released code, facebookresearch/LeViT, main.py, clips gradients relative to the weights"),
)}
