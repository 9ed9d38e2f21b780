"""Where the parts of a ribbon lie, in pixels: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import floor, log10

from msgspec import Struct, structs

from gui.widgets.ribbon_model import Band, RibbonModel

MARGIN = 12.0
LANE = 66.0
LEAST_LANE = 9.0
ROOM = 128.0
SHORT_ROOM = 112.0
ROOM_OF_MANY = 244.0
SHORT_ROOM_OF_MANY = 196.0
ROOM_OF_ONE = 21.0
"""Height of everything above the modules that few nodes need, that many have, both also where the page is low, and that
each takes."""
NAMED_LANE = 18.0
"""Height of a lane, and of the gap below it, that has room for a name: very many nodes have that."""
LANE_OF_MANY = 36.0
CELLS = 24.0
CELLS_OF_MANY = 11.0
FINEST_CELL = 4.0
LANE_GAP = 6.0
GAP_OF_MANY = 2.0
FEW = 4
"""More lanes than this lie closer together."""
PROFILE = 30.0
RADIUS = 6.0
SQUEEZE = 3.0
"""Pixels that a line of text may lack: what letters leave free above and below."""
BAND_WIDTH = 46.0
"""Pixels that a label of a module needs; bands are as fine as that allows."""


class Size(Struct, frozen=True):
    """How much room there is, in pixels."""

    width: float
    line: float
    """Height of a line of text."""
    room: float = 0.0
    """Height of everything above the modules, whatever the plan; 0: as high as the plan needs."""


class Frame(Struct, frozen=True):
    """What every ribbon has: lanes, modules below them, and an axis of time; in pixels of the widget."""

    left: float
    width: float
    lanes_top: float
    lane_height: float
    rows: int
    """Lanes."""
    gap: float
    """Between lanes."""
    bands_top: float
    band_height: float
    bands: tuple[tuple[Band, ...], ...]
    axis_top: float
    height: float

    def x(self, u: float) -> float:
        return self.left + u * self.width

    def u(self, x: float) -> float:
        return (x - self.left) / self.width

    def lane_top(self, row: int) -> float:
        return self.lanes_top + row * (self.lane_height + self.gap)

    @property
    def lanes_bottom(self) -> float:
        return self.lane_top(self.rows - 1) + self.lane_height


def framed(size: Size, model: RibbonModel | None, rows: int, lanes_top: float, *, usual: float, least: float) -> Frame:
    """``usual``: height of a lane where no room is given; ``least``: of one in a room that is too small."""
    inner = max(1.0, size.width - 2 * MARGIN)
    bands = model.band_rows(int(inner / BAND_WIDTH)) if model else ()
    gap = LANE_GAP if rows <= FEW else GAP_OF_MANY
    gaps = (rows - 1) * gap
    lane_height = max(least, (size.room - lanes_top - gaps) / rows) if size.room else usual
    bands_top = lanes_top + rows * lane_height + gaps + 4
    band_height = size.line + 6
    axis_top = bands_top + len(bands) * band_height + (4 if bands else 0)
    return Frame(
        left=MARGIN,
        width=inner,
        lanes_top=lanes_top,
        lane_height=lane_height,
        rows=rows,
        gap=gap,
        bands_top=bands_top,
        band_height=band_height,
        bands=bands,
        axis_top=axis_top,
        height=axis_top + size.line + 6,
    )


def cell_edges(edges: Sequence[float]) -> list[float]:
    """Those between layers that get a line, of all of them in pixels; where they are finer than the eye, several
    layers share a cell."""
    kept, last = [], edges[0]
    for edge in edges[1:-1]:
        if edge - last >= FINEST_CELL:
            kept.append(edge)
            last = edge
    return kept


class Geometry(Frame, frozen=True):
    """Where everything is on a ribbon of whole layers."""

    pill_top: float
    pill_height: float
    profile_top: float
    cells: float
    """Height of the strip of layers at the bottom of a lane."""


def room_for(nodes: int, *, low: bool) -> float:
    """Height of a ribbon above its modules: the same for every strategy, so that nothing moves between them."""
    few, many = (SHORT_ROOM, SHORT_ROOM_OF_MANY) if low else (ROOM, ROOM_OF_MANY)
    return max(few, min(max(many, NAMED_LANE * nodes), few - ROOM_OF_ONE * FEW + ROOM_OF_ONE * nodes))


def arrange(size: Size, rows: int, model: RibbonModel | None, *, cut: bool) -> Geometry:
    """``rows``: lanes; ``cut``: leave room for the handles."""
    line, pill_top = size.line, 2.0
    pill_height = line + 8
    above = pill_height + 6 + PROFILE + 2
    lanes_top = pill_top + (above if cut or (rows == 1 and size.room) else 0)
    frame = framed(size, model, rows, lanes_top, usual=LANE if rows == 1 else LANE_OF_MANY, least=LEAST_LANE)
    tall = frame.lane_height >= LANE_OF_MANY + line
    return Geometry(
        **structs.asdict(frame),
        pill_top=pill_top,
        pill_height=pill_height,
        profile_top=pill_top + (pill_height + 6 if cut else 0),
        cells=CELLS if tall else min(CELLS_OF_MANY, frame.lane_height * 0.3),
    )


def spread(centres: Sequence[float], widths: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Move labels apart that would overlap, as little as possible, and keep them between ``low`` and ``high``.

    ``centres`` increase. Labels that touch form a block, which stays in the middle of where its labels belong.
    """
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    blocks: list[tuple[float, int]] = []
    for want in (centre - offset for centre, offset in zip(centres, offsets, strict=False)):
        mean, size = want, 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, size = (mean * size + other * more) / (size + more), size + more
        blocks.append((mean, size))
    starts = [mean for mean, size in blocks for _ in range(size)]
    if not starts:
        return []
    first, last = low + widths[0] / 2, high - widths[-1] / 2 - offsets[-1]
    return [max(min(start, last), first) + offset for start, offset in zip(starts, offsets, strict=True)]


def nice_step(total: float, most: int) -> float:
    """A round step (1, 2 or 5 times a power of ten) that gives at most ``most`` steps in ``total``."""
    if total <= 0:
        return 1.0
    raw = total / max(1, most)
    power: float = 10.0 ** floor(log10(raw))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * 0.999)
