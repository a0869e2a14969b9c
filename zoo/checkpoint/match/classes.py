"""Which units of the two sides can stand for each other, by roles and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from zoo.checkpoint.match.units import Shape, Signature, Unit, flattened, squeezed, transposed

Classes = dict[Signature, Signature]


def classes(source: Iterable[Unit], target: Iterable[Unit]) -> Classes:
    """Maps each signature to the class it belongs to.

    Equal signatures are one class. Where one side has units to spare of one signature and the other side of another,
    the two are joined if they differ in axes of size 1, in a kernel laid flat (a linear layer and the convolution that
    does the same), in a transpose, or in a bias that one of them lacks; the first of these that fits one way only.
    """
    sources, targets = Counter(unit.signature for unit in source), Counter(unit.signature for unit in target)
    joined: Classes = {signature: signature for signature in [*sources, *targets]}
    spare = [signature for signature in sources if sources[signature] > targets[signature]]
    wanting = [signature for signature in targets if targets[signature] > sources[signature]]
    for like in _LIKENESSES:
        for signature in list(spare):
            fitting = [other for other in wanting if like(signature, other)]
            rivals = [other for other in spare if any(like(other, want) for want in fitting)]
            if len(fitting) == 1 and rivals == [signature]:
                joined[signature] = joined[fitting[0]]
                spare.remove(signature)
                wanting.remove(fitting[0])
    return joined


def _alike(change: Callable[[Shape], Shape]) -> Callable[[Signature, Signature], bool]:
    def like(first: Signature, second: Signature) -> bool:
        one, other = ([(role, change(shape)) for role, shape in signature] for signature in (first, second))
        return one == other

    return like


def _turned(first: Signature, second: Signature) -> bool:
    """The first's matrices are the second's tensors with the two axes swapped, in a shape of their own."""
    if [role for role, _ in first] != [role for role, _ in second]:
        return False
    shapes = [(one, other) for (_, one), (_, other) in zip(first, second, strict=True) if one != other]
    return all(len(one) == 2 and transposed(one) == flattened(other) for one, other in shapes)


def _lacking(first: Signature, second: Signature) -> bool:
    """They share a weight of the same shape, and one has what the other lacks."""
    one, other = dict(first), dict(second)
    common = set(one) & set(other)
    return "weight" in common and all(one[role] == other[role] for role in common) and common in (set(one), set(other))


_LIKENESSES = (_alike(squeezed), _alike(flattened), _turned, _lacking)
