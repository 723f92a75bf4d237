"""Blocks that two networks or more use, and light convolutions that a chapter teaches as drop-ins."""
from lwcourse.layers.adaptive_pool import adaptive_average_pool
from lwcourse.layers.bn_prelu import BNPReLU, ConvBNPReLU
from lwcourse.layers.channel_shuffle import ChannelShuffle
from lwcourse.layers.conv_bn_act import ConvBNAct
from lwcourse.layers.dilated_pyramid import DilatedPyramid
from lwcourse.layers.ghost_module import GhostModule
from lwcourse.layers.initialise import initialise
from lwcourse.layers.make_divisible import make_divisible
from lwcourse.layers.separable_conv import SeparableConv
from lwcourse.layers.shift import Shift
from lwcourse.layers.squeeze_excitation import SqueezeExcitation
from lwcourse.layers.training_output import TrainingOutput
from lwcourse.layers.validate import check_images, check_options

__all__ = ["BNPReLU", "ChannelShuffle", "ConvBNAct", "ConvBNPReLU", "DilatedPyramid", "GhostModule", "SeparableConv",
           "Shift", "SqueezeExcitation", "TrainingOutput", "adaptive_average_pool", "check_images", "check_options",
           "initialise", "make_divisible"]
