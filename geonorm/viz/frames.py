"""Figures that a reader can move: frames drawn beforehand in a page, recomputed where a kernel runs.

panel = viz.Panel(x=(0, 10), y=(-1, 1))

def draw(frequency):
    y = np.sin(frequency * x)
    return panel.line(x, y), f"{frequency * 10 / (2 * np.pi):.1f} periods are seen"

viz.Frames(draw, viz.Control("frequency", [1, 2, 3, 4]), title="A wave", background=panel.axes())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from geonorm.viz import frames_html, frames_widget
from geonorm.viz.frontend import has_live_widgets, has_notebook_server

#: A page with a dozen such figures must still load on a phone.
MAX_BYTES = 40_000

Value = int | float | np.number | str
Marks = str | Sequence[str]


class Frame(NamedTuple):
    """One state of a figure.

    Args:
        marks: What is drawn, as SVG.
        words: What it shows, with its numbers.
    """

    marks: str
    words: str


@dataclass(frozen=True)
class Control:
    """What a reader may change: numbers become a slider, names a list to choose from.

    Args:
        label: The quantity, as it stands beside the slider.
        values: Its values, in order.
        unit: Written behind each number.
        start: The place in ``values`` where the figure begins.

    Raises:
        ValueError: If there are fewer than two values, or numbers and names are mixed, or ``start`` is no place.
    """

    label: str
    values: Sequence[Any]
    unit: str = ""
    start: int = 0

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"control {self.label!r} has {len(self.values)} values, expected at least two")
        if len({isinstance(value, str) for value in self.values}) == 2:
            raise ValueError(f"control {self.label!r} mixes numbers and names: {list(self.values)}; use one kind")
        if not 0 <= self.start < len(self.values):
            raise ValueError(f"start of control {self.label!r} is {self.start}, expected 0 to {len(self.values) - 1}")

    @property
    def named(self) -> bool:
        """Whether the values are names."""
        return isinstance(self.values[0], str)

    def say(self, value: Value) -> str:
        """Write a value with its unit.

        Args:
            value: Any number, or one of the names.
        """
        if isinstance(value, str):
            return value
        space = "" if self.unit in ("", "°", "%") else " "
        return f"{value:g}".replace("-", "−") + space + self.unit

    def finer(self) -> list[Value]:
        """Return the values that a kernel may be asked for: all whole numbers, or fifths of an even step.

        Names, and numbers that are not evenly spaced, stay as they are.
        """
        if self.named:
            return list(self.values)
        steps = {round(float(b) - float(a), 9) for a, b in zip(self.values, self.values[1:], strict=False)}
        if len(steps) > 1:
            return list(self.values)
        if all(isinstance(value, Integral) for value in self.values):
            first, last = int(self.values[0]), int(self.values[-1])
            return list(range(first, last + 1)) if first < last else list(self.values)
        step = steps.pop() / 5
        return [round(float(self.values[0]) + step * place, 9) for place in range(5 * (len(self.values) - 1) + 1)]


class Frames:
    """A figure with one or two controls: drawn beforehand in a page, recomputed where a kernel runs.

    In a page the frames are SVG, one of them is seen, and a few lines of JavaScript change which. Nothing is loaded
    from anywhere. A reader without a mouse moves the slider with the arrow keys; a reader who does not see hears the
    words of the frame; without JavaScript the first frame stands there, and all words below it.

    In a notebook with a live kernel (JupyterLab, Binder, Colab, VS Code) the same object shows ipywidgets, which call
    ``draw`` again, also for numbers between the frames. The environment variable ``GEONORM_LIVE`` chooses: ``0`` is the
    page, ``1`` the widgets.

    Args:
        draw: A function of one value for each control. It returns what to draw (SVG marks, a string or several) and
            what that shows, in words with the numbers of this frame.
        *controls: One or two.
        title: The message of the figure, one sentence.
        size: Width and height in pixels, as the marks count them; the page scales it.
        background: Marks that all frames share, drawn once, behind them.
        shared: Name to marks that frames repeat by `geonorm.viz.use`.

    Raises:
        ValueError: If there are no controls or more than two; and when the figure is shown, if a frame has no words or
            the figure is larger than 40 kB.
    """

    def __init__(
        self,
        draw: Callable[..., tuple[Marks, str]],
        *controls: Control,
        title: str,
        size: tuple[int, int] = (480, 290),
        background: Marks = "",
        shared: Mapping[str, Marks] | None = None,
    ):
        if len(controls) not in (1, 2):
            raise ValueError(f"got {len(controls)} controls, expected one or two: viz.Frames(draw, viz.Control(…), …)")
        self.draw, self.controls, self.title, self.size = draw, controls, title, size
        self.background = together(background)
        self.shared = {name: together(marks) for name, marks in (shared or {}).items()}

    def frame(self, *values: Value) -> Frame:
        """Draw one frame.

        Args:
            *values: One for each control.

        Returns:
            The frame.

        Raises:
            ValueError: If the frame has no words.
        """
        marks, words = self.draw(*values)
        if not words.strip():
            said = ", ".join(control.say(value) for control, value in zip(self.controls, values, strict=True))
            raise ValueError(f"the frame at {said} has no words; draw must return (marks, words)")
        return Frame(together(marks), " ".join(words.split()))

    @cached_property
    def frames(self) -> list[Frame]:
        """All frames; the values of the last control change first."""
        return [self.frame(*values) for values in product(*(control.values for control in self.controls))]

    def live(self) -> Any:
        """Return the figure as ipywidgets, which recompute.

        Raises:
            ImportError: If ipywidgets is not installed.
        """
        return frames_widget.widget(self)

    def __repr__(self) -> str:
        axes = " × ".join(f"{len(control.values)} of {control.label}" for control in self.controls)
        return f"Frames({self.title!r}: {axes})"

    def _repr_html_(self) -> str:
        page = frames_html.page(self)
        size = len(page.encode())
        if size > MAX_BYTES:
            raise ValueError(
                f"the figure {self.title!r} has {size / 1000:.0f} kB, at most {MAX_BYTES // 1000} kB: draw fewer "
                "frames or fewer marks, or move what repeats to background or shared"
            )
        return page

    def _ipython_display_(self) -> None:
        # Of several kinds in one output JupyterLab takes the widget, also when its kernel is gone and a message is all
        # that it can show. So there the page's face is an output of its own.
        if not has_notebook_server() or not has_live_widgets():
            raise NotImplementedError  # then IPython asks for the bundle
        from IPython.display import display

        page = self._repr_html_() + f"<style>{frames_html.ASIDE}</style>"
        display({"text/plain": repr(self), "text/html": page}, raw=True)
        display(self.live()._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if has_live_widgets():
            view = self.live()._repr_mimebundle_()
            bundle |= {kind: data for kind, data in view.items() if kind not in bundle}
        return bundle


def together(marks: Marks) -> str:
    """Join marks to one string."""
    return marks if isinstance(marks, str) else "".join(marks)
