"""The face of a figure with controls in a page: SVG, sliders, and a few lines of JavaScript; nothing from elsewhere."""

from __future__ import annotations

import hashlib
import html
from typing import TYPE_CHECKING

from geonorm.viz.style import COLORS

if TYPE_CHECKING:
    from geonorm.viz.frames import Control, Frame, Frames

#: The colours of the book on white, and what takes their places on a dark page.
DARK = {
    "blue": "#5BB4F0",
    "vermillion": "#FF8A47",
    "green": "#3CC79A",
    "purple": "#E39BCB",
    "sky": "#1F6FA3",
    "grey": "#A6ADB5",
    "pale": "#3A424D",
    "paper": "#14181E",
}
LIGHT = {name: COLORS.get(name, "#FFFFFF") for name in DARK} | {"sky": "#9CC9E8"}
#: How pages and notebooks say that they are dark: this site, JupyterLab, Colab, VS Code.
DARK_PAGES = ("html[data-theme=dark]", "[data-jp-theme-light=false]", "html[theme=dark]", ".vscode-dark")

STYLE = "".join(
    [
        ".gn-frames{margin:1rem 0;max-width:36rem;color:inherit;",
        *(f"--gn-{name}:{color};" for name, color in LIGHT.items()),
        "--gn-ink:currentColor}",
        ",".join(f"{page} .gn-frames" for page in DARK_PAGES),
        "{",
        *(f"--gn-{name}:{color};" for name, color in DARK.items()),
        "}",
        # No selector of a mark names an element around it: what <use> repeats does not see those.
        *(f".gn-{name}{{--c:var(--gn-{name})}}" for name in (*LIGHT, "ink")),
        ".gn-t{fill:var(--c);font:15px sans-serif}.gn-small{font-size:13px}.gn-bold{font-weight:bold}",
        ".gn-m{text-anchor:middle}.gn-e{text-anchor:end}.gn-dots{fill:none;stroke:var(--c);stroke-linecap:round}",
        ".gn-sq{stroke-linecap:square}.gn-line{fill:none;stroke:var(--c);stroke-linejoin:round}",
        ".gn-area{fill:var(--c)}.gn-grid{fill:none;stroke:var(--gn-pale)}",
        ".gn-frames figcaption{font-weight:bold;margin:0 0 .4rem;color:inherit}",
        ".gn-frames svg{display:block;width:100%;height:auto;overflow:visible}",
        ".gn-frames .gn-bar{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:center}",
        ".gn-frames .gn-bar[hidden]{display:none}",
        ".gn-frames label{display:flex;flex:1 1 18rem;flex-wrap:wrap;gap:0 .6rem;align-items:center;margin:0}",
        ".gn-frames input{flex:1 1 8rem;min-width:0;height:1.8rem;margin:0;accent-color:var(--gn-blue)}",
        ".gn-frames b{min-width:3.2em}",
        ".gn-frames button,.gn-frames select{font:inherit;padding:.15rem .8rem;color:inherit;background:none;",
        "border:1px solid currentColor;border-radius:.3rem}.gn-frames option{color:#222;background:#fff}",
        ".gn-frames :focus-visible{outline:3px solid var(--gn-blue);outline-offset:2px}",
        ".gn-frames p{margin:.3rem 0}.gn-frames details{font-size:.9em}.gn-frames .gn-bare{display:none}",
        # A widget cuts what stands out of the picture, and has lines far apart.
        ".gn-live .gn-frames{padding:0 1rem;line-height:1.5}",
        "@media(prefers-reduced-motion:reduce){.gn-frames button{display:none}}",
        "@media print{.gn-frames .gn-bar,.gn-frames details{display:none}}",
    ]
)

# What the page's face brings along beside a live one in JupyterLab: it is seen only where the live one is not, and then
# the place of the widget, which JupyterLab fills with words about a model, is not.
ASIDE = (
    ".jp-OutputArea:has(.gn-live) .gn-frames[data-gn],"
    ".jp-OutputArea:has(.gn-frames[data-gn]) .jp-OutputArea-output.lm-Panel:not(:has(*)){display:none}"
)

# The words stand once in the page, in the list; a frame's place in it is that of the frame in the picture. A slider
# says them itself, as its value; a list of names does not, so there the line below the picture speaks up. The attribute
# keeps JupyterLab from taking the arrow keys.
SCRIPT = """for(const f of document.querySelectorAll('[data-gn="ID"]:not([data-on])')){f.dataset.on='';
const q=s=>[...f.querySelectorAll(s)],c=q('[data-c]'),g=q('svg>g:last-child>g'),w=q('li').map(e=>e.textContent),
p=q('.gn-words')[0],b=q('button')[0],said=c.map(e=>e.options?[...e.options]:e.dataset.c.split('|'));let t;
const show=()=>{let i=0;c.forEach((e,k)=>i=i*said[k].length+ +e.value);
g.forEach((e,k)=>e.setAttribute('display',k==i?'inline':'none'));p.textContent=w[i];
c.forEach((e,k)=>{const v=said[k][e.value];if(e.type=='range'){e.nextElementSibling.textContent=v;
e.setAttribute('aria-valuetext',v+'. '+w[i])}})};
const stop=()=>{clearInterval(t);t=0;if(b)b.textContent='Play'};
c.forEach(e=>{e.dataset.lmSuppressShortcuts='';
e.addEventListener('input',()=>{stop();p.ariaLive=e.options?'polite':'off';show()})});
if(b)b.onclick=()=>{if(t)return stop();b.textContent='Stop';const e=c[0],n=+e.max;if(+e.value==n)e.value=-1;
const step=()=>{e.value=+e.value+1;show();if(+e.value==n)stop()};t=setInterval(step,600);
if(e.value==0)show();else step()};
q('.gn-bar')[0].hidden=false;q('.gn-note').forEach(e=>e.remove());show()}"""


def page(figure: Frames) -> str:
    """Return the figure with all its frames.

    Args:
        figure: The figure.

    Returns:
        One HTML element. Its id depends on the words of the figure alone.
    """
    frames, name = figure.frames, identity(figure)
    start = 0
    for control in figure.controls:
        start = start * len(control.values) + control.start
    hidden = ' display="none"'
    groups = "".join(f"<g{hidden * (place != start)}>{frame.marks}</g>" for place, frame in enumerate(frames))
    words = "".join(f"<li>{html.escape(frame.words, quote=False)}</li>" for frame in frames)
    controls = "".join(_control(control) for control in figure.controls)
    play = "" if figure.controls[0].named else '<button type="button">Play</button>'
    now = html.escape(frames[start].words, quote=False)
    drawing = _svg(figure, groups, name)
    return (
        f'<figure class="gn-frames" id="{name}" data-gn="{name}"><style>{STYLE}</style>'
        f"<figcaption>{html.escape(figure.title, quote=False)}</figcaption>{drawing}"
        '<p class="gn-bare">The picture is left out, as this notebook is not trusted here: run the cell to see it.</p>'
        f'<div class="gn-bar" hidden="hidden">{controls}{play}</div><p class="gn-words" id="{name}-words">{now}</p>'
        f'<p class="gn-note">This figure moves where JavaScript runs. One of its {len(frames)} states is shown.</p>'
        f"<details><summary>All {len(frames)} states in words</summary><ol>{words}</ol></details>"
        f"<script>{SCRIPT.replace('ID', name).replace(chr(10), '')}</script></figure>"
    )


def still(figure: Frames, frame: Frame) -> str:
    """Return one frame without controls.

    Args:
        figure: What the frame belongs to.
        frame: The frame.
    """
    name = identity(figure, [frame]) + "-now"
    return (
        f'<figure class="gn-frames"><style>{STYLE}</style><figcaption>{html.escape(figure.title, quote=False)}'
        f'</figcaption>{_svg(figure, f"<g>{frame.marks}</g>", name)}<p id="{name}-words">'
        f"{html.escape(frame.words, quote=False)}</p></figure>"
    )


def identity(figure: Frames, frames: list[Frame] | None = None) -> str:
    """Return an id made of what the figure says: its title, its controls, the words of its frames.

    What it draws is left out: last digits of coordinates differ between machines.
    """
    parts = [figure.title]
    for control in figure.controls:
        parts += [control.label, *map(control.say, control.values)]
    parts += [frame.words for frame in (figure.frames if frames is None else frames)]
    return "gn-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def _svg(figure: Frames, groups: str, name: str) -> str:
    width, height = figure.size
    shared = "".join(f'<g id="{name}-{key}">{marks}</g>' for key, marks in figure.shared.items())
    defs = f"<defs>{shared}</defs>" if shared else ""
    body = f"{defs}<g>{figure.background}</g><g>{groups}</g>".replace('href="#@', f'href="#{name}-')
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-words">{body}</svg>'


def _control(control: Control) -> str:
    said = [control.say(value) for value in control.values]
    if control.named:
        options = "".join(
            f'<option value="{place}"{" selected" if place == control.start else ""}>{html.escape(name)}</option>'
            for place, name in enumerate(said)
        )
        return f"<label>{html.escape(control.label)} <select data-c>{options}</select></label>"
    data, last = html.escape("|".join(said)), len(said) - 1
    return (
        f'<label>{html.escape(control.label)} <input type="range" min="0" max="{last}" value="{control.start}" '
        f'data-c="{data}"><b aria-hidden="true">{html.escape(said[control.start])}</b></label>'
    )
