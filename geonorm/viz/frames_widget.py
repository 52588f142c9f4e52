"""The live face of a figure with controls: ipywidgets that draw again at every change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geonorm.viz import frames_html

if TYPE_CHECKING:
    from geonorm.viz.frames import Control, Frames

MILLISECONDS = 500


def widget(figure: Frames) -> Any:
    """Return a box of controls over a picture that is computed when one of them changes.

    Args:
        figure: The figure.

    Returns:
        An ``ipywidgets.VBox``: the row of controls, then the picture.

    Raises:
        ImportError: If ipywidgets is not installed.
    """
    try:
        import ipywidgets
    except ImportError as missing:
        raise ImportError(
            "the live figure needs ipywidgets, which is not installed: pip install 'geonorm[book]'"
        ) from missing
    picture = ipywidgets.HTML()
    inputs, row = [], []
    for place, control in enumerate(figure.controls):
        chooser = _chooser(ipywidgets, control)
        inputs.append(chooser)
        row.append(chooser)
        if place == 0 and not control.named:
            last = len(chooser.options) - 1
            # The link copies the button's place to the slider as soon as it is shown. A step is as wide as in the page:
            # to draw takes a while.
            play = ipywidgets.Play(
                value=chooser.index,
                max=last,
                step=max(1, last // (len(control.values) - 1)),
                interval=MILLISECONDS,
            )
            ipywidgets.jslink((play, "value"), (chooser, "index"))
            row.append(play)

    def redraw(_: Any = None) -> None:
        picture.value = frames_html.still(figure, figure.frame(*(chooser.value for chooser in inputs)))

    for chooser in inputs:
        chooser.observe(redraw, names="value")
    redraw()
    box = ipywidgets.VBox([ipywidgets.HBox(row, layout={"flex_flow": "row wrap", "grid_gap": "0 1rem"}), picture])
    box.add_class("gn-live")
    return box


def _chooser(ipywidgets: Any, control: Control) -> Any:
    """A slider for numbers, a list for names."""
    values = control.finer()
    options = [(control.say(value), value) for value in values]
    start = control.values[control.start]
    kind = ipywidgets.Dropdown if control.named else ipywidgets.SelectionSlider
    # A slider that looks up its value among fractions must find the very same number.
    index = (
        min(range(len(values)), key=lambda place: abs(values[place] - start)) if not control.named else control.start
    )
    return kind(
        options=options,
        index=index,
        description=control.label,
        tooltip=control.label,
        style={"description_width": "initial"},
        layout={"width": "28em", "max_width": "100%"},
        **({} if control.named else {"continuous_update": True}),
    )
