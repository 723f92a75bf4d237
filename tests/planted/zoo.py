"""Networks of libraries against themselves, and against each other's."""
import timm
import torch
import torch.fx.experimental.optimization
import torchvision
from torch import nn

import lwcourse as lw
from planted import Pair

TIMM = {  # name: (options, side of the image); those in the first row keep tensors that they made in eval mode
    "levit_128s": (dict(img_size=32), 32), "tiny_vit_5m_224": ({}, 32), "efficientformer_l1": (dict(img_size=224), 224),
    "efficientformerv2_s0": (dict(img_size=32), 32), "efficientvit_m0": ({}, 32), "efficientvit_m2": ({}, 32),
    "levit_conv_128s": (dict(img_size=32), 32),
    "mobileone_s0": ({}, 32), "repvgg_a0": ({}, 32), "fastvit_t8": ({}, 32), "mobilenetv4_conv_small": ({}, 32),
    "edgenext_xx_small": ({}, 32), "convnextv2_atto": ({}, 32), "coat_lite_tiny": (dict(img_size=32), 32),
    "regnety_002": ({}, 32), "res2net50_26w_4s": ({}, 32), "dla34": ({}, 32),
    "maxvit_rmlp_pico_rw_256": (dict(img_size=32), 32), "xcit_nano_12_p16_224": ({}, 32), "pvt_v2_b0": ({}, 32),
    "skresnet18": ({}, 32), "resnest14d": ({}, 32), "ghostnetv2_100": ({}, 64), "nf_regnet_b0": ({}, 32),
    "gmlp_ti16_224": (dict(img_size=32), 32), "halonet26t": ({}, 256), "mambaout_femto": ({}, 32),
    "swiftformer_xs": ({}, 32), "repvit_m0_9": ({}, 32), "sequencer2d_s": ({}, 32), "davit_tiny": ({}, 32),
    "eva02_tiny_patch14_224": (dict(img_size=32), 32), "mobilevitv2_050": ({}, 32), "efficientvit_b0": ({}, 32),
    "crossvit_tiny_240": ({}, 32), "volo_d1_224": (dict(img_size=32), 32),
}
CACHING = tuple(TIMM)[:6]

TORCHVISION = {  # name: (builder, shape of the input)
    "deeplab": (lambda: torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5), (2, 3, 64, 64)),
    "r2plus1d": (lambda: torchvision.models.video.r2plus1d_18(num_classes=5), (1, 3, 4, 32, 32)),
    "swin_v2_t": (lambda: torchvision.models.swin_v2_t(num_classes=5), (1, 3, 64, 64)),
    "ssdlite": (lambda: torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5).backbone, (1, 3, 96, 96)),
}

PYTORCHCV = {"igcv3_w1": 224, "mnasnet_b1": 224, "airnext50_32x4d_r2": 224, "condensenet74_c4_g4": 224,
             "dabnet_cityscapes": 64, "sinet_cityscapes": 128}  # name: side of the image; most fix 224


def of_timm(name, used=False):
    options, side = TIMM[name]

    def build(fault=""):
        net = timm.create_model(name, num_classes=5, **options)
        if used:  # what it makes in eval mode is there before the comparison
            with torch.no_grad():
                net.eval()(torch.randn(1, 3, side, side))
        return net
    return build


def of_pytorchcv(name):
    def build(fault=""):
        from pytorchcv.model_provider import get_model
        return get_model(name, **{} if "cityscapes" in name else {"num_classes": 5})
    return build


def same(name, build, shape):
    return Pair(name, lambda fault: build(), build, shape)


def apart(name, mine, reference, *shape):
    return Pair(name, lambda fault: mine(), reference, shape)


def vit_of_torchvision():
    return torchvision.models.VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=5)


def vit_of_timm():
    return timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2,
                                         num_classes=5)


def course(name, **options):
    return lambda: lw.create_model(name, num_classes=5, **options)


def from_timm(name, **options):
    return lambda: timm.create_model(name, num_classes=5, **options)


def from_torchvision(name, **options):
    return lambda: getattr(torchvision.models, name)(num_classes=5, **options)


def convnext(**options):
    return timm.models.ConvNeXt(depths=(1, 1, 1, 1), num_classes=5, **options)


def convnext_of_torchvision():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    widths = (96, 192, 384, 768, None)
    return ConvNeXt([CNBlockConfig(widths[i], widths[i + 1], 1) for i in range(4)], num_classes=5)


def swin_of_torchvision():
    return torchvision.models.SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=5)


def swin_of_timm():
    return timm.models.SwinTransformer(img_size=32, patch_size=4, embed_dim=24, depths=(2, 2), num_heads=(2, 4),
                                       window_size=4, num_classes=5)


def resnet_folded():
    return torch.fx.experimental.optimization.fuse(torchvision.models.resnet18(num_classes=5).eval())


LEVIT = course("levit_128s", image_size=32)

ZOO = (
    *(same(f"timm {name}", of_timm(name), (1, 3, side, side)) for name, (_, side) in TIMM.items()),
    *(Pair(f"timm {name} that has run", of_timm(name, used=True), of_timm(name), (1, 3, TIMM[name][1], TIMM[name][1]))
      for name in CACHING),
    *(Pair(f"timm {name}, reference that has run", of_timm(name), of_timm(name, used=True),
           (1, 3, TIMM[name][1], TIMM[name][1])) for name in CACHING[:2]),
    *(same(f"torchvision {name}", build, shape) for name, (build, shape) in TORCHVISION.items()),
    *(same(f"pytorchcv {name}", of_pytorchcv(name), (1, 3, side, side)) for name, side in PYTORCHCV.items()),
    apart("levit: course against timm", LEVIT, of_timm("levit_128s"), 1, 3, 32, 32),
    apart("levit: timm against course", of_timm("levit_128s"), LEVIT, 1, 3, 32, 32),
    apart("levit: timm's convolutional form against the course", of_timm("levit_conv_128s"), LEVIT, 1, 3, 32, 32),
    apart("levit: course against timm's convolutional form", LEVIT, of_timm("levit_conv_128s"), 1, 3, 32, 32),
    apart("levit: two forms of timm", of_timm("levit_conv_128s"), of_timm("levit_128s"), 1, 3, 32, 32),
    apart("mobilenet_v2: timm against course", from_timm("mobilenetv2_100"), course("mobilenet_v2"), 1, 3, 64, 64),
    apart("resnet18_d: timm against course", from_timm("resnet18d"), course("resnet18_d"), 1, 3, 64, 64),
    apart("resnet18: course against torchvision", course("resnet18"), from_torchvision("resnet18"), 1, 3, 64, 64),
    apart("convnext: timm against torchvision", convnext, convnext_of_torchvision, 1, 3, 64, 64),
    apart("convnext: torchvision against timm", convnext_of_torchvision, convnext, 1, 3, 64, 64),
    apart("convnext: timm's convolutional MLP against torchvision", lambda: convnext(conv_mlp=True),
          convnext_of_torchvision, 1, 3, 64, 64),
    apart("hrnet: timm against course", from_timm("hrnet_w18_small"), course("hrnet_w18_small"), 1, 3, 64, 64),
    apart("inception_v3: timm against torchvision", from_timm("inception_v3"),
          from_torchvision("inception_v3", aux_logits=False, init_weights=False), 1, 3, 96, 96),
    apart("efficientnet_b0: timm against torchvision", from_timm("efficientnet_b0"),
          from_torchvision("efficientnet_b0"), 1, 3, 64, 64),
    apart("vit: timm against torchvision", vit_of_timm, vit_of_torchvision, 2, 3, 32, 32),
    apart("vit: torchvision against timm", vit_of_torchvision, vit_of_timm, 2, 3, 32, 32),
    apart("densenet121: timm against torchvision", from_timm("densenet121"), from_torchvision("densenet121"),
          1, 3, 64, 64),
    apart("swin: timm against torchvision", swin_of_timm, swin_of_torchvision, 1, 3, 32, 32),
    apart("mobilevit: timm against course", from_timm("mobilevit_xxs"), course("mobilevit_xxs"), 1, 3, 64, 64),
    apart("mobilevit: course against timm", course("mobilevit_xxs"), from_timm("mobilevit_xxs"), 1, 3, 64, 64),
    apart("resnet18: BatchNorm folded by torch.fx", resnet_folded, from_torchvision("resnet18"), 1, 3, 64, 64),
    apart("compiled reference", course("resnet18"), lambda: torch.compile(lw.create_model("resnet18", num_classes=5)),
          1, 3, 64, 64),
    apart("course in DataParallel", lambda: nn.DataParallel(lw.create_model("resnet18", num_classes=5)),
          from_torchvision("resnet18"), 1, 3, 64, 64),
)
