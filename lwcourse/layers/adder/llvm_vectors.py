"""Sums of products, and the like, in LLVM's vectors: what the inner loops of tiles.py are written in.

numba keeps what it compiled until the file with the loop changes; after a change here, touch that one.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils

VECTOR = 32  # bytes; LLVM splits vectors where registers are narrower
INT = ir.IntType(64)


class Vectors:
    """LLVM code for vectors of the numbers in an array."""

    def __init__(self, context, builder, array_type):
        self.context, self.builder = context, builder
        number = context.get_value_type(array_type.dtype)
        self.lanes = VECTOR // (4 if array_type.dtype == types.float32 else 8)
        self.type = ir.VectorType(number, self.lanes)
        self.bits = 8 * VECTOR // self.lanes

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
        sums = [[cgutils.alloca_once_value(self.builder, self.constant(0.0)) for _ in range(vectors)]
                for _ in scalars]
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
