"""Names beside points, none on top of another."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox, BboxBase

from bayesprf.arrays import FloatArray

# Sides of a point at which its name is tried, the best first.
_SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
# Gaps between point and name that are tried, the smallest first, font points.
_GAPS = (3.0, 9.0)
_PAD = 1.0


class Labels(Artist):
    """Names that are placed when the figure is drawn, the first ones first; those without room are left out.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where the points are.
    x, y : ndarray of float64, shape (n,)
        Points, in the coordinates of the data.
    names : sequence of str, shape (n,)
        What to write, the most important first.
    room : float or ndarray of float64
        Radius of the marker of each point, font points.
    total : int, optional
        Number of sources in view: a title then says how many of them are named.
    """

    def __init__(
        self,
        ax: Axes,
        x: FloatArray,
        y: FloatArray,
        names: Sequence[str],
        *,
        room: object = 3.0,
        total: int | None = None,
    ) -> None:
        super().__init__()
        self.points = np.stack([x, y], axis=1)
        self.room = np.broadcast_to(np.asarray(room, np.float64), (len(names),))
        self.texts = [_make_text(ax, name) for name in names]
        self.shown: list[Text] = []
        self.total = total
        self.set_zorder(2.9)  # below the title, which is drawn after the names have been counted
        self.set_in_layout(False)
        ax.add_artist(self)
        self._count(len(names))

    def draw(self, renderer: RendererBase) -> None:
        """Choose a side for each name that overlaps with none before, and draw it.

        Parameters
        ----------
        renderer : matplotlib.backend_bases.RendererBase
            What draws.
        """
        ax = self.axes
        if not isinstance(ax, Axes):
            return
        pixel = float(np.asarray(renderer.points_to_pixels(1.0)))
        taken: list[BboxBase] = []
        self.shown = []
        for text, place, room in zip(self.texts, ax.transData.transform(self.points), self.room, strict=True):
            text.set_position((0.0, 0.0))
            size = text.get_window_extent(renderer)
            box = _free_box(place, (size.width, size.height), pixel * room, taken=taken, frame=ax.bbox, pixel=pixel)
            if box is not None:
                taken.append(box.padded(_PAD * pixel))
                text.set_position((box.x0, box.y0))
                text.draw(renderer)
                self.shown.append(text)
        self._count(len(self.shown))

    def _count(self, n_named: int) -> None:
        if self.total is not None and isinstance(self.axes, Axes):
            words = f"{self.total} sources" if n_named == self.total else f"{n_named} of {self.total} sources named"
            self.axes.set_title(words, fontsize="small", loc="right")


def _make_text(ax: Axes, name: str) -> Text:
    text = Text(0.0, 0.0, name, color="tab:red", fontsize="small", parse_math=False, va="bottom", ha="left")
    text.set_figure(ax.figure)
    text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
    return text


def _free_box(
    place: FloatArray, size: tuple[float, float], room: float, *, taken: list[BboxBase], frame: BboxBase, pixel: float
) -> Bbox | None:
    """Return a box of the size beside a place, inside the frame and clear of those taken; None without one."""
    for gap in _GAPS:
        for right, up in _SIDES:
            reach = room * (0.7071 if right and up else 1.0) + gap * pixel * (0.3 if right and up else 1.0)
            left = place[0] + right * reach - (0.0, 0.5, 1.0)[1 - right] * size[0]
            low = place[1] + up * reach - (0.0, 0.5, 1.0)[1 - up] * size[1]
            box = Bbox.from_bounds(left, low, *size)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(one) for one in taken):
                return box
    return None
