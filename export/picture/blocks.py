"""What a box says of its part: weights, multiply-adds, rows and time."""

from __future__ import annotations

from collections.abc import Sequence

from d2serve.export.picture.naming import BEFORE, detail_of, name_of
from d2serve.export.picture.network import FUNCTION, MODULE, TERMINAL, Block
from d2serve.export.picture.operations import Flow, Operation
from d2serve.export.picture.partition import Part


def block_of_part(
    part: Part, absorbed: Sequence[Part], phase: str, ran: Sequence[Operation], flow: Flow
) -> Block:
    """The box of a part.

    Args:
        part: whose modules it shows.
        absorbed: others that it shows, too.
        phase: of the root's own work, BEFORE, BETWEEN or AFTER; otherwise empty.
        ran: its operations.
        flow: the model.
    """
    counts = [each.multiply_adds for each in ran]
    places = {(each.path, each.step) for each in ran}
    per_row, rows = _by_rows(ran)
    weights = 0
    if phase in ("", BEFORE):
        parts = (part, *absorbed)
        weights = sum(
            count for path, count in flow.weights.items() if any(_is_in(path, p) for p in parts)
        )
    return Block(
        name=name_of(part, phase),
        detail=detail_of(part, flow.kinds, ran),
        frame=part.path.partition(".")[0],
        role=MODULE if weights else FUNCTION,
        path=part.path,
        weights=weights,
        multiply_adds=None
        if None in counts
        else sum(each.multiply_adds or 0 for each in ran if each.rows != 0),
        row_multiply_adds=per_row,
        rows=rows,
        seconds=sum(flow.seconds.get(place, 0.0) for place in places) if flow.seconds else None,
        is_idle=not ran,
    )


def _by_rows(ran: Sequence[Operation]) -> tuple[int | None, int | None]:
    """The multiply-adds of a row and the number of rows, where all work is on as many rows as the
    image has objects."""
    multiplying = [each for each in ran if each.multiply_adds]
    rows = {each.rows for each in multiplying}
    varying = all(each.shape and each.shape[0].varies for each in multiplying)
    if len(rows) != 1 or not varying or None in rows:
        return None, None
    (count,) = rows
    return sum((each.multiply_adds or 0) // max(count or 0, 1) for each in multiplying), count


def _is_in(path: str, part: Part) -> bool:
    return path in part.own or any(
        path == member or path.startswith(f"{member}.") for member in part.members
    )


def terminal_block(kind: str, flow: Flow) -> Block:
    """The box of all that goes in, or of all that comes out: INPUT or OUTPUT."""
    names = dict.fromkeys(each.name for each in flow.operations if each.kind == kind)
    return Block(kind, ", ".join(names), "", TERMINAL, "", 0, 0)
