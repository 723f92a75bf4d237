"""Wrong answers to the exercises of chapter 00, and words that the refusal must have."""


def flops():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return 2 * in_channels * out_channels * kernel**2 * height * width // groups
    return conv_macs


def without_groups():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return in_channels * out_channels * kernel**2 * height * width
    return conv_macs


def kernel_once():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return in_channels * out_channels * kernel * height * width // groups
    return conv_macs


def only_squares():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return in_channels * out_channels * kernel**2 * height * height // groups
    return conv_macs


WRONG = {
    "00.1": {
        "a multiply and an add counted as two": (flops, "one MAC is both together"),
        "groups forgotten": (without_groups, "`groups` makes no difference"),
        "kernel not squared": (kernel_once, "kernel * kernel"),
        "height taken for width": (only_squares, "too small"),
    },
}
