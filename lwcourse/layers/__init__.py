"""Blocks that two networks or more use, and light convolutions that a chapter teaches as drop-ins."""
from lwcourse.layers.adaptive_pool import adaptive_average_pool
from lwcourse.layers.adder import AdderConv2d
from lwcourse.layers.auxiliary_pool import AuxiliaryPool
from lwcourse.layers.bn_prelu import BNPReLU, ConvBNPReLU
from lwcourse.layers.branches import Branches, tower
from lwcourse.layers.channel_shuffle import ChannelShuffle
from lwcourse.layers.conv_bn_act import ConvBNAct
from lwcourse.layers.coordinate_attention import CoordinateAttention
from lwcourse.layers.dilated_pyramid import DilatedPyramid
from lwcourse.layers.efficient_channel_attention import EfficientChannelAttention, adaptive_kernel_size
from lwcourse.layers.ghost_module import GhostModule
from lwcourse.layers.inception_conv import InceptionConv
from lwcourse.layers.initialise import initialise
from lwcourse.layers.initialise_fan_in import initialise_fan_in
from lwcourse.layers.layer_norm_2d import LayerNorm2d
from lwcourse.layers.learned_group_conv import LearnedGroupConv
from lwcourse.layers.make_divisible import make_divisible
from lwcourse.layers.recalibrate import recalibrate
from lwcourse.layers.released_shuffle_unit import ReleasedShuffleUnit
from lwcourse.layers.same_conv import SameConv2d
from lwcourse.layers.select_channels import SelectChannels
from lwcourse.layers.separable_conv import SeparableConv
from lwcourse.layers.shift import Shift
from lwcourse.layers.shuffle_attention import ShuffleAttention
from lwcourse.layers.slim_shuffle_unit import SlimShuffleUnit
from lwcourse.layers.split_attention import SplitAttention
from lwcourse.layers.squeeze_excitation import SqueezeExcitation
from lwcourse.layers.stochastic_depth import StochasticDepth
from lwcourse.layers.training_output import TrainingOutput
from lwcourse.layers.triplet_attention import TripletAttention
from lwcourse.layers.validate import check_flag, check_images, check_integer, check_options, check_rate

__all__ = ["AdderConv2d", "AuxiliaryPool", "BNPReLU", "Branches", "ChannelShuffle", "ConvBNAct", "ConvBNPReLU",
           "CoordinateAttention", "DilatedPyramid", "EfficientChannelAttention", "GhostModule", "InceptionConv",
           "LayerNorm2d", "LearnedGroupConv", "ReleasedShuffleUnit", "SameConv2d", "SelectChannels", "SeparableConv",
           "Shift", "ShuffleAttention", "SlimShuffleUnit", "SplitAttention", "SqueezeExcitation", "StochasticDepth",
           "TrainingOutput", "TripletAttention", "adaptive_average_pool", "adaptive_kernel_size", "check_flag",
           "check_images", "check_integer", "check_options", "check_rate", "initialise", "initialise_fan_in",
           "make_divisible", "recalibrate", "tower"]
