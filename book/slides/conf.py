"""Sphinx settings of the slides: sphinx-revealjs brings reveal.js along, so nothing is loaded from a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "_ext"))

project = "Normalization layers in equivariant networks"
author = "geonorm developers"
language = "en"
extensions = ["myst_parser", "sphinx_revealjs", "cover"]
myst_enable_extensions = ["colon_fence"]
root_doc = "talk"

revealjs_html_theme = "revealjs-simple"
revealjs_style_theme = "white"
revealjs_static_path = ["slides.css"]
revealjs_css_files = ["slides.css"]
revealjs_script_conf = {
    "hash": True,
    "slideNumber": "c/t",
    "navigationMode": "linear",
    "transition": "none",
    "width": 1120,
    "height": 700,
    "margin": 0.03,
}
revealjs_script_plugins = [{"name": "RevealNotes", "src": "revealjs/plugin/notes/notes.js"}]
