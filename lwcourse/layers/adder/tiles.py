"""The inner loops of the adder convolution on a CPU, at the speed of a convolution; needs numba (the extra `fast`).

Measured on one core at 3 GHz, 64 -> 64 channels, 3x3, 32 x 32 pixels, in thousand million terms |x - w| a second:
the textbook's broadcasting 0.2, torch.cdist 1.2, torch.compile (which needs a C++ compiler) 10, a plain numba loop
over unfolded patches 15, these loops 24; with 16 channels the plain loop does 4, and its input gradient 8, where these
do 20. 24 is the processor's limit: a term takes two additions, and there are two units for eight of them each.
(oneDNN's convolution: 33 to 45 thousand million products.) To get there, sums must stay in registers, those of TILE
positions times a few vectors of channels, while the places of the kernel pass by. A compiler does not find that by
itself, so the loop is written in LLVM's vectors through numba, which comes as a wheel and keeps on disk what it
compiled.

Maps lie as (N, H, W, channels) here, so that a patch is one contiguous run for each row of the kernel.
"""
from numba import njit, types
from numba.extending import intrinsic

from lwcourse.layers.adder.llvm_vectors import INT, Vectors

TILE = 4  # positions at once; with 2 vectors of outputs, 8 sums hide the latency of an addition


def jit(function):
    try:
        return njit(function, nogil=True, cache=True)
    except RuntimeError:  # there is no folder that it could write to
        return njit(function, nogil=True)


@intrinsic
def distance_tile(typing, x, starts, rows, run, pitch, weight, weight_start, out, out_start, out_pitch):
    """out[out_start + i * out_pitch + o] = -sum |x[starts[i] + r * pitch + j] - weight[r, j, o]|, two vectors of o."""
    def build(context, builder, signature, arguments):
        x, starts, rows, run, pitch, weight, weight_start, out, out_start, out_pitch = arguments
        v = Vectors(context, builder, signature.args[0])
        scalars = [v.pointer(signature.args[0], x, builder.extract_value(starts, i)) for i in range(TILE)]

        def term(total, scalar, operand, position):
            return builder.fadd(total, v.call("fabs", builder.fsub(scalar, operand)))
        sums = v.sum_products(scalars, v.pointer(signature.args[5], weight, weight_start), rows, run, pitch, 2, term)
        target = v.pointer(signature.args[7], out, out_start)
        for i, vectors in enumerate(sums):
            for k, total in enumerate(vectors):
                v.store(builder.fneg(total), v.offset(target, INT(i), out_pitch), k)
        return context.get_dummy_value()
    return types.void(x, starts, rows, run, pitch, weight, weight_start, out, out_start, out_pitch), build


@intrinsic
def slope_tile(typing, grad, starts, rows, run, pitch, weight, weight_start, x, places, out, one):
    """out[places[i] + c] = sum grad[starts[i] + r * pitch + j] * clamp(weight[r, j, c] - x, -1, 1), one vector of c.

    weight - x is taken as weight * one - x, with a `one` that LLVM cannot foresee, because the processor's units for
    additions have enough to do with the two comparisons; the result is the same, bit for bit.
    """
    def build(context, builder, signature, arguments):
        grad, starts, rows, run, pitch, weight, weight_start, x, places, out, one = arguments
        v = Vectors(context, builder, signature.args[0])
        scalars = [v.pointer(signature.args[0], grad, builder.extract_value(starts, i)) for i in range(TILE)]
        places = [builder.extract_value(places, i) for i in range(TILE)]
        minus = [builder.fneg(v.load(v.pointer(signature.args[7], x, place))) for place in places]
        least, most, ones = v.constant(-1.0), v.constant(1.0), v.spread(one)

        def term(total, scalar, operand, i):  # the comparisons let pass what is not a number
            slope = v.call("fmuladd", operand, ones, minus[i])
            slope = builder.select(builder.fcmp_ordered(">", least, slope), least, slope)
            slope = builder.select(builder.fcmp_ordered("<", most, slope), most, slope)
            return v.call("fmuladd", scalar, slope, total)
        sums = v.sum_products(scalars, v.pointer(signature.args[5], weight, weight_start), rows, run, pitch, 1, term)
        for place, (total,) in zip(places, sums, strict=True):
            v.store(total, v.pointer(signature.args[9], out, place))
        return context.get_dummy_value()
    return types.void(grad, starts, rows, run, pitch, weight, weight_start, x, places, out, x.dtype), build


@jit
def distance_tiles(first, last, x, x_sides, weight, kernel, stride, sides, count, out):
    """Tiles `first` to `last`, of TILE positions each, of `out` (positions, panels, two vectors of outputs), flat.

    `x` (N, *x_sides, channels) is flat, `weight` (panels, kernel height, kernel width * channels, two vectors).
    """
    panels, rows, run, lanes = weight.shape
    channels = run // kernel[1]
    weight = weight.reshape(-1)
    for tile in range(first, last):
        a = spot(TILE * tile, sides, count, (0, 0), stride, x_sides)
        b = spot(TILE * tile + 1, sides, count, (0, 0), stride, x_sides)
        c = spot(TILE * tile + 2, sides, count, (0, 0), stride, x_sides)
        d = spot(TILE * tile + 3, sides, count, (0, 0), stride, x_sides)
        starts = (a * channels, b * channels, c * channels, d * channels)
        for panel in range(panels):
            distance_tile(x, starts, rows, run, x_sides[1] * channels, weight, panel * rows * run * lanes,
                          out, (TILE * tile * panels + panel) * lanes, panels * lanes)


@jit
def slope_tiles(first, last, grad, grad_sides, corner, weight, outputs, x, x_sides, phase, stride, sides, count, out,
                one):
    """Tiles `first` to `last` of `out`, the gradient of `x` (N, *x_sides, panels, one vector of inputs), flat.

    The positions are every `stride`-th from `phase` on: the same places of the kernel reach all of them, those of
    `weight` (panels, rows, columns * outputs, one vector). `grad` (N, *grad_sides, outputs) is flat and padded, and
    what reaches the first position starts at `corner`.
    """
    panels, rows, run, lanes = weight.shape
    weight = weight.reshape(-1)
    for tile in range(first, last):
        a = spot(TILE * tile, sides, count, corner, (1, 1), grad_sides)
        b = spot(TILE * tile + 1, sides, count, corner, (1, 1), grad_sides)
        c = spot(TILE * tile + 2, sides, count, corner, (1, 1), grad_sides)
        d = spot(TILE * tile + 3, sides, count, corner, (1, 1), grad_sides)
        starts = (a * outputs, b * outputs, c * outputs, d * outputs)
        a = spot(TILE * tile, sides, count, phase, stride, x_sides) * panels
        b = spot(TILE * tile + 1, sides, count, phase, stride, x_sides) * panels
        c = spot(TILE * tile + 2, sides, count, phase, stride, x_sides) * panels
        d = spot(TILE * tile + 3, sides, count, phase, stride, x_sides) * panels
        for panel in range(panels):
            places = ((a + panel) * lanes, (b + panel) * lanes, (c + panel) * lanes, (d + panel) * lanes)
            slope_tile(grad, starts, rows, run, grad_sides[1] * outputs, weight, panel * rows * run * lanes,
                       x, places, out, one)


@jit
def spot(position, sides, count, corner, stride, map_sides):
    """Where, in maps of `map_sides`, the position of a grid of `sides` is; those past the last repeat it."""
    image, rest = divmod(min(position, count - 1), sides[0] * sides[1])
    row, column = corner[0] + rest // sides[1] * stride[0], corner[1] + rest % sides[1] * stride[1]
    return (image * map_sides[0] + row) * map_sides[1] + column
