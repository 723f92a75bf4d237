"""The inner loops of the adder convolution on a CPU, at the speed of a convolution; needs numba (the extra `fast`).

Measured on one core at 3 GHz, 64 -> 64 channels, 3x3, 32 x 32 pixels, in thousand million terms |x - w| a second:
the textbook's broadcasting 0.1, torch.cdist 0.5, torch.compile 1.2, a plain numba loop 6, these loops 24, which is
the processor's limit: a term takes two additions, and there are two units for eight of them each. (The convolution
of oneDNN: 33 thousand million products.) To get there, sums must stay in registers, those of TILE positions times a
few vectors of channels, while the places of the kernel pass by. No compiler finds that by itself, so the loop is
written in LLVM's vectors through numba, which comes as a wheel and keeps on disk what it compiled.

Maps lie as (N, H, W, channels) here, so that a patch is one contiguous run for each row of the kernel.
"""
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

TILE = 4     # positions at once; with 2 vectors of outputs, 8 sums hide the latency of an addition
VECTOR = 32  # bytes; LLVM splits vectors where registers are narrower
INT = ir.IntType(64)


def jit(function):
    try:
        return njit(function, nogil=True, cache=True)
    except RuntimeError:  # there is no folder that it could write to
        return njit(function, nogil=True)


class _Vectors:
    """LLVM code for vectors of the numbers in an array."""

    def __init__(self, context, builder, array_type):
        self.context, self.builder = context, builder
        number = context.get_value_type(array_type.dtype)
        self.lanes = VECTOR // (4 if array_type.dtype == types.float32 else 8)
        self.type = ir.VectorType(number, self.lanes)
        self.bits = 256 // self.lanes

    def pointer(self, array_type, array, index):
        return self.builder.gep(self.context.make_array(array_type)(self.context, self.builder, array).data, [index])

    def offset(self, pointer, *factors):
        """pointer + the product of the factors, in numbers."""
        product = factors[0]
        for factor in factors[1:]:
            product = self.builder.mul(product, factor)
        return self.builder.gep(pointer, [product])

    def load(self, pointer, index: int = 0):
        pointer = self.builder.gep(pointer, [INT(index * self.lanes)])
        return self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()), align=self.bits // 8)

    def store(self, value, pointer, index: int = 0):
        pointer = self.builder.gep(pointer, [INT(index * self.lanes)])
        self.builder.store(value, self.builder.bitcast(pointer, self.type.as_pointer()), align=self.bits // 8)

    def spread(self, number):
        """A vector that holds `number` in every lane."""
        empty, first = ir.Constant(self.type, ir.Undefined), ir.IntType(32)(0)
        one = self.builder.insert_element(empty, number, first)
        return self.builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(first.type, self.lanes), None))

    def constant(self, value: float):
        return ir.Constant(self.type, [value] * self.lanes)

    def call(self, name: str, *arguments):
        kind = ir.FunctionType(self.type, [self.type] * len(arguments))
        name = f"llvm.{name}.v{self.lanes}f{self.bits}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def sum_products(self, scalars, weight, rows, run, pitch, vectors: int, term):
        """[position][vector] sums of term(scalar, weight vector, position) over `rows` runs of `run` scalars.

        Scalars of a position start at its pointer in `scalars`, and `pitch` further on for each row.
        """
        sums = [[cgutils.alloca_once_value(self.builder, self.constant(0.0)) for _ in range(vectors)] for _ in scalars]
        width = INT(vectors * self.lanes)
        with cgutils.for_range(self.builder, rows, intp=INT) as row:
            starts = [self.offset(start, row.index, pitch) for start in scalars]
            weights = self.offset(weight, row.index, run, width)
            with cgutils.for_range(self.builder, run, intp=INT) as place:
                here = self.offset(weights, place.index, width)
                operands = [self.load(here, v) for v in range(vectors)]
                for position, start in enumerate(starts):
                    scalar = self.spread(self.builder.load(self.offset(start, place.index)))
                    for v, operand in enumerate(operands):
                        slot = sums[position][v]
                        self.builder.store(term(self.builder.load(slot), scalar, operand, position), slot)
        return [[self.builder.load(slot) for slot in slots] for slots in sums]


@intrinsic
def distance_tile(typing, x, starts, rows, run, pitch, weight, weight_start, out, out_start, out_pitch):
    """out[out_start + i * out_pitch + o] = -sum |x[starts[i] + r * pitch + j] - weight[r, j, o]|, two vectors of o."""
    def build(context, builder, signature, arguments):
        x, starts, rows, run, pitch, weight, weight_start, out, out_start, out_pitch = arguments
        v = _Vectors(context, builder, signature.args[0])
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
        v = _Vectors(context, builder, signature.args[0])
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
        image, row, column = where(TILE * tile, sides, count)
        a = flat(image, row * stride[0], column * stride[1], x_sides) * channels
        image, row, column = where(TILE * tile + 1, sides, count)
        b = flat(image, row * stride[0], column * stride[1], x_sides) * channels
        image, row, column = where(TILE * tile + 2, sides, count)
        c = flat(image, row * stride[0], column * stride[1], x_sides) * channels
        image, row, column = where(TILE * tile + 3, sides, count)
        d = flat(image, row * stride[0], column * stride[1], x_sides) * channels
        for panel in range(panels):
            distance_tile(x, (a, b, c, d), rows, run, x_sides[1] * channels, weight, panel * rows * run * lanes,
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
        image, row, column = where(TILE * tile, sides, count)
        a = flat(image, corner[0] + row, corner[1] + column, grad_sides) * outputs
        e = flat(image, phase[0] + row * stride[0], phase[1] + column * stride[1], x_sides) * panels
        image, row, column = where(TILE * tile + 1, sides, count)
        b = flat(image, corner[0] + row, corner[1] + column, grad_sides) * outputs
        f = flat(image, phase[0] + row * stride[0], phase[1] + column * stride[1], x_sides) * panels
        image, row, column = where(TILE * tile + 2, sides, count)
        c = flat(image, corner[0] + row, corner[1] + column, grad_sides) * outputs
        g = flat(image, phase[0] + row * stride[0], phase[1] + column * stride[1], x_sides) * panels
        image, row, column = where(TILE * tile + 3, sides, count)
        d = flat(image, corner[0] + row, corner[1] + column, grad_sides) * outputs
        h = flat(image, phase[0] + row * stride[0], phase[1] + column * stride[1], x_sides) * panels
        for panel in range(panels):
            places = ((e + panel) * lanes, (f + panel) * lanes, (g + panel) * lanes, (h + panel) * lanes)
            slope_tile(grad, (a, b, c, d), rows, run, grad_sides[1] * outputs, weight, panel * rows * run * lanes,
                       x, places, out, one)


@jit
def where(position, sides, count):
    """(image, row, column) of a position; those past the last one repeat it."""
    image, rest = divmod(min(position, count - 1), sides[0] * sides[1])
    return image, rest // sides[1], rest % sides[1]


@jit
def flat(image, row, column, sides):
    return (image * sides[0] + row) * sides[1] + column
