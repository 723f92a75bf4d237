"""Operators as their formulas, where the other network has them so: then both have the same steps to compare."""
import torch

from lwcourse.compare.graph import Node, Value, as_formula
from lwcourse.compare.operators import is_activation, scalar, unchanged


def spell_out(mine: list[Node], reference: list[Node]) -> None:
    """Where only one side has a norm, Hardsigmoid or a convolution in groups as one operator, it becomes its formula
    there; and an activation of a concatenation goes into its parts, where the other has it on parts."""
    for name in ("native_layer_norm", "native_batch_norm", "hardsigmoid", "hardswish", "convolution"):
        sides = [[node for node in nodes if node.name == name and _as_one(node)] for nodes in (mine, reference)]
        if bool(sides[0]) == bool(sides[1]):
            continue
        if _has_parts(name, reference if sides[0] else mine):
            for node in sides[0] or sides[1]:
                made = as_formula(node)
                if made is not None:
                    node.outputs[0].node = made[-1]
    joined = [[node for node in nodes if _of_a_concatenation(node)] for nodes in (mine, reference)]
    if bool(joined[0]) != bool(joined[1]):
        other = reference if joined[0] else mine
        for node in joined[0] or joined[1]:
            kinds = [n for n in other if n.name == node.name]
            if any(n.name == "cat" for n in other) and kinds:
                _into_parts(node)


def _as_one(node: Node) -> bool:
    return node.name != "convolution" or node.args[-1] > 1


def _has_parts(name: str, nodes: list[Node]) -> bool:
    """Whether the other network seems to have the parts of the formula."""
    if name.startswith("hard"):
        return any(scalar(node) == ("addition of", 3.0) for node in nodes)
    if name == "convolution":
        return any(node.name == "cat" for node in nodes) and any(node.name == name for node in nodes)
    return True


def _of_a_concatenation(node: Node) -> bool:
    if not is_activation(node) or "softmax" in node.name or len(node.operands) != 1:
        return False
    inner = unchanged(node.operands[0]).node
    return inner is not None and inner.name == "cat" and len(inner.operands) > 1


def _into_parts(node: Node) -> None:
    inner = unchanged(node.operands[0]).node
    parts = []
    for k, value in enumerate(inner.operands):
        args = tuple(value if a is node.operands[0] else a for a in node.args)
        part = Node(node.function, args, node.kwargs, node.number, step=k + 1)
        part.outputs = [Value(value.shape, part)]
        parts.append(part.outputs[0])
    whole = Node(torch.ops.aten.cat.default, (parts, *inner.args[1:]), {}, node.number, step=len(parts) + 1)
    whole.outputs = [node.outputs[0]]
    node.outputs[0].node = whole
