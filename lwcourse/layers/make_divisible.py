"""Rounding of channel counts, from the reference code of MobileNetV2."""


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, at least `divisor`, never more than 10 % below.

    Raises ValueError when `channels` is not positive, as happens with a width of 0 or less.
    Source: tensorflow/models, research/slim/nets/mobilenet (`_make_divisible`).
    """
    if channels <= 0:
        raise ValueError(f"channels must be positive, got {channels}; is the width positive?")
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor
