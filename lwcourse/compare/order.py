"""An order of a network's operators that depends on what reads what, and not on which branch was called first."""
import math
import zlib

from torch.utils._pytree import tree_flatten

from lwcourse.compare.graph import Node, Value, needed
from lwcourse.compare.operators import MOVES, PRODUCTS, SUMS, UNCHANGED

COMMUTE = (SUMS | PRODUCTS | {"maximum", "minimum"}) - {"rsub", "sub", "div"}
SORTED = COMMUTE | {"sub"}  # a difference is often a sum with a mistake in it


def by_data(outputs: list[Value], joined_anyhow: bool = False, read: list[tuple[Value, Node]] | None = None
            ) -> list[Node]:
    """The nodes behind `outputs`, each after those that it reads, branch by branch.

    Branches come in the order of the operands that they end in, as of a concatenation or a matrix product; where
    that means nothing, as in a sum, the one with more parameters behind it comes first, then by what it is; with
    `joined_anyhow` in a concatenation too. What each node reads is added to `read`, branch by branch as well.
    """
    nodes = needed(outputs)
    behind: dict[Node, int] = {}
    steps: dict[Node, int] = {}  # how many operators that compute lie on the longest way to a node
    kinds: dict[Node, int] = {}
    bits: dict[Value, int] = {}  # parameter -> its bit in `behind`
    for node in nodes:
        settings = [a for a in tree_flatten(node.args)[0] if isinstance(a, (int, float, str))]
        found, parts = 0, [node.name, str(settings)]
        for value in node.operands:
            if value.node is None:
                found |= bits.setdefault(value, 1 << len(bits))
                parts.append(str(value.shape))
            else:
                found |= behind[value.node]
                parts.append(f"{kinds[value.node]}.{value.index}")
        behind[node] = found
        moves = node.name in UNCHANGED or node.name in MOVES
        steps[node] = max((steps[v.node] for v in node.operands if v.node is not None), default=0) + (not moves)
        if node.name in UNCHANGED and node.operands[0].node is not None:
            kinds[node] = kinds[node.operands[0].node]
            continue
        kinds[node] = zlib.crc32(" ".join(sorted(parts) if node.name in COMMUTE else parts).encode())

    def elements(node: Node) -> int:
        return sum(math.prod(value.shape) for value, bit in bits.items() if behind[node] & bit)

    def branches(node: Node) -> list[Value]:
        inner = [v for v in node.operands if v.node is not None]
        if len(inner) > 1 and (node.name in SORTED or joined_anyhow and node.name in ("cat", "stack")):
            inner.sort(key=lambda v: (-behind[v.node].bit_count(), -elements(v.node), -steps[v.node], v.node.name,
                                      kinds[v.node]))
        return inner

    order: list[Node] = []
    done: set[Node] = set()
    for value in outputs:
        if value.node is None:
            continue
        stack = [(value.node, iter(branches(value.node)))]
        while stack:
            node, rest = stack[-1]
            if node in done:
                stack.pop()
                continue
            following = None
            for value in rest:
                if read is not None:
                    read.append((value, node))
                if value.node not in done:
                    following = value.node
                    break
            if following is not None:
                stack.append((following, iter(branches(following))))
            else:
                done.add(node)
                order.append(node)
                stack.pop()
    return order
