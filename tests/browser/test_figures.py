"""Figures that move, in a browser: by keyboard, by button, without JavaScript, for readers who dislike motion."""

import pytest
from browser.site import PAGES, SITE, settle

WITH_FIGURES = [name for name in PAGES if 'class="gn-frames"' in (SITE / name).read_text(encoding="utf-8")]

pytestmark = pytest.mark.skipif(not WITH_FIGURES, reason="no page has a figure that moves, or the book is not built")

SEEN = """figure => ({
  seen: [...figure.querySelectorAll('svg > g:last-child > g')].map((g, i) => [getComputedStyle(g).display, i])
    .filter(([display]) => display != 'none').map(([, i]) => i),
  frames: figure.querySelectorAll('svg > g:last-child > g').length,
  listed: [...figure.querySelectorAll('li')].map(e => e.textContent),
  words: figure.querySelector('.gn-words').textContent,
  controls: figure.querySelector('.gn-bar').checkVisibility(),
  note: !!figure.querySelector('.gn-note'),
  bottom: figure.querySelector('svg').getBoundingClientRect().height,
})"""


@pytest.fixture(scope="module")
def page(open_context):
    return open_context().new_page()


def figures(page, name, address):
    if page.url != address + name:
        settle(page, address + name)
    return page.query_selector_all(".gn-frames")


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_the_arrow_keys_change_the_picture_and_what_is_said(name, page, address):
    for figure in figures(page, name, address):
        state = figure.evaluate(SEEN)
        assert len(state["seen"]) == 1
        assert state["frames"] == len(state["listed"])
        assert state["controls"]
        assert not state["note"]
        for control in figure.query_selector_all("[data-c]"):
            before = figure.evaluate(SEEN)
            slider = control.get_attribute("type") == "range"
            key = "ArrowUp" if not slider else "ArrowRight"
            at_end = control.evaluate("e => e.value == (e.max || e.options.length - 1)")
            control.focus()
            page.keyboard.press(
                "ArrowLeft" if slider and at_end else "ArrowUp" if at_end else key.replace("Up", "Down")
            )
            after = figure.evaluate(SEEN)
            assert len(after["seen"]) == 1
            assert after["seen"] != before["seen"]
            assert after["words"] == after["listed"][after["seen"][0]]
            if slider:
                assert after["words"] in control.get_attribute("aria-valuetext")
                outline = control.evaluate("e => getComputedStyle(e).outlineStyle")
                assert outline != "none"


def test_play_shows_every_frame_and_stops(page, address):
    for name in WITH_FIGURES:
        button = next((b for f in figures(page, name, address) if (b := f.query_selector("button"))), None)
        if button:
            break
    else:
        pytest.skip("no figure has a play button")
    figure = button.evaluate_handle("b => b.closest('figure')").as_element()
    slider = figure.query_selector("input")
    slider.evaluate("e => { e.value = e.max - 2; e.dispatchEvent(new Event('input')) }")
    button.click()
    assert button.text_content() == "Stop"
    page.wait_for_function("b => b.textContent == 'Play'", arg=button, timeout=5000)
    assert slider.evaluate("e => e.value == e.max")
    assert len(figure.evaluate(SEEN)["seen"]) == 1


def test_readers_who_dislike_motion_get_no_play_button(open_context, address):
    page = open_context(reduced_motion="reduce").new_page()
    found = [figure for name in WITH_FIGURES[:2] for figure in figures(page, name, address)]
    assert found
    for button in page.query_selector_all(".gn-frames button"):
        assert not button.is_visible()


def test_without_javascript_one_frame_and_all_words_are_there(open_context, address):
    page = open_context(java_script_enabled=False).new_page()
    page.goto(address + WITH_FIGURES[0])
    figure = page.locator(".gn-frames").first
    assert figure.locator("svg > g:last-child > g:visible").count() == 1
    assert figure.locator(".gn-note").is_visible()
    assert not figure.locator(".gn-bar").is_visible()
    figure.locator("summary").click()
    assert figure.locator("li:visible").count() == figure.locator("svg > g:last-child > g").count()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_stand_out_from_the_page(theme, open_context, address):
    page = open_context(theme).new_page()
    for figure in figures(page, WITH_FIGURES[0], address):
        ink, paper = figure.evaluate(
            """f => [getComputedStyle(f.querySelector('.gn-ink')).fill, getComputedStyle(f).color, f].slice(0, 2)"""
        )
        assert ink == paper
        surface = figure.evaluate(
            "f => { while (f && getComputedStyle(f).backgroundColor == 'rgba(0, 0, 0, 0)') f = f.parentElement; "
            "return getComputedStyle(f).backgroundColor }"
        )
        bright = [sum(map(int, color.removeprefix("rgb(").rstrip(")").split(",")[:3])) for color in (ink, surface)]
        assert (bright[0] < bright[1]) == (theme == "light")
        assert abs(bright[0] - bright[1]) > 300
