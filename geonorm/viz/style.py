"""The one plot style of the book, and the one way to show a figure."""

from __future__ import annotations

import base64
import io
import textwrap

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

COLORS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#00795A",
    "purple": "#A3487F",
    "sky": "#56B4E9",
    "ink": "#222222",
    "grey": "#6B6B6B",
    "pale": "#EDEDED",
}
"""Colours that stay apart for every common form of colour blindness; figures never rely on them alone."""

WIDTH = 6.0
"""Width of a figure in inches: a full column on a laptop, still readable when a phone shrinks it by half."""

DPI = 110
TITLE_CHARACTERS = 50
COLORS_PER_PICTURE = 200


def use_style() -> None:
    """Set the plot style of the book for the running session."""
    mpl.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.figsize": (WIDTH, 3.4),
            "font.family": "DejaVu Sans",
            "font.size": 13,
            "text.color": COLORS["ink"],
            "axes.labelcolor": COLORS["ink"],
            "axes.edgecolor": COLORS["grey"],
            "axes.titlesize": 13,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E3E3E3",
            "grid.linewidth": 0.8,
            "xtick.color": COLORS["ink"],
            "ytick.color": COLORS["ink"],
            "lines.linewidth": 2.4,
            "hatch.linewidth": 0.8,
            "axes.prop_cycle": mpl.cycler(
                color=[COLORS[name] for name in ("vermillion", "blue", "green", "purple", "grey")]
            ),
        }
    )


def figure(
    title: str, *, height: int | float = 3.4, width: int | float = WIDTH, columns: int = 1, sharey: bool = False
) -> tuple[Figure, Axes | list[Axes]]:
    """Open a figure whose title states its point.

    Args:
        title: The message of the figure, one sentence; wrapped and set flush left.
        height: Height in inches.
        width: Width in inches.
        columns: Number of panels side by side.
        sharey: Whether the panels share the vertical axis.

    Returns:
        The figure and its axes: one object for one panel, a list for several.
    """
    fig, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained", sharey=sharey, squeeze=False)
    fig.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    if title:
        wrapped = "\n".join(textwrap.wrap(title, int(TITLE_CHARACTERS * width / WIDTH)))
        fig.suptitle(wrapped, x=0.03, ha="left", fontsize=13, fontweight="bold")
    panels = list(axes[0])
    return fig, panels[0] if columns == 1 else panels


def _white_card(fig: Figure) -> None:
    """Put an opaque white card with round corners behind the figure, so that a dark page does not swallow its ink."""
    fig.patch.set_visible(False)
    width, height = fig.get_size_inches()
    card = FancyBboxPatch(
        (0, 0),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        transform=fig.dpi_scale_trans,
        facecolor="white",
        edgecolor="none",
        zorder=-10,
    )
    card.set_in_layout(False)
    fig.add_artist(card)


def png(fig: Figure) -> bytes:
    """Render a figure as the bytes of one small PNG, the same bytes each time."""
    _white_card(fig)
    full = io.BytesIO()
    fig.savefig(full, format="png", dpi=DPI, facecolor="none", metadata={"Software": None})
    small = io.BytesIO()
    with Image.open(full) as picture:
        # A palette keeps a chapter with a dozen figures far below the size at which repositories and phones complain.
        picture.quantize(COLORS_PER_PICTURE, method=Image.Quantize.FASTOCTREE).save(small, format="png", optimize=True)
    return small.getvalue()


def show(fig: Figure, alt: str) -> None:
    """Show a figure in a notebook together with its text alternative, then close it.

    Args:
        fig: The figure.
        alt: What the figure shows, in words, for readers who do not see it.

    Raises:
        ValueError: If the text alternative is empty.
    """
    if not alt or not alt.strip():
        raise ValueError("a figure needs a text alternative, got an empty one; pass alt=viz.alt_…(…) with its numbers")
    from IPython.display import display

    picture = base64.b64encode(png(fig)).decode("ascii")
    plt.close(fig)
    display(
        {"image/png": picture, "text/plain": "<Figure>"},
        raw=True,
        metadata={"image/png": {"alt": " ".join(alt.split())}},
    )
