"""notebooks/execute.py and hygiene.py: what they make and refuse, and that a refusal leaves the old notebook alone."""

import json
import os
import types

import costs
import execute
import hygiene
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

HEADER = "---\nkernelspec:\n  display_name: Python 3\n  name: python3\n---\n\n"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SHOW = (
    "from IPython.display import publish_display_data\n"
    f'publish_display_data({{"image/png": "{PIXEL}", "text/plain": "<Figure>"}}, {{"image/png": {{"alt": "A dot."}}}})'
)


def _text(*cells: str) -> str:
    return HEADER + "# 99 A chapter\n\n" + "\n".join(f"```{{code-cell}} ipython3\n{cell}\n```\n" for cell in cells)


def _figure(alt="A dot."):
    output = new_output("display_data", {"image/png": PIXEL, "text/plain": "<Figure>"})
    metadata = {"mystnb": {"image": {"alt": alt}}} if alt else {}
    return new_code_cell("draw()", execution_count=1, outputs=[output], metadata=metadata)


def _code(source="1 + 1", count=1, outputs=()):
    return new_code_cell(source, execution_count=count, outputs=list(outputs))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    chapters, pages = tmp_path / "notebooks", tmp_path / "book"
    for each in (chapters, pages):
        (each / "text").mkdir(parents=True)
    monkeypatch.setattr(execute, "FOLDERS", (chapters, pages))
    return chapters


def test_a_good_notebook_is_accepted():
    cells = [new_markdown_cell("# 99 A chapter"), _figure(), _code(count=2), new_code_cell("")]
    assert hygiene.problems(new_notebook(cells=cells)) == []


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (_figure(alt=""), "no alt text"),
        (_figure(alt="   "), "no alt text"),
        (_code(count=None), "execution count is None, expected 1"),
        (_code(count=7), "execution count is 7, expected 1"),
        (_code("plot();"), "ends with ';'"),
        (_code(outputs=[new_output("error", ename="ValueError", evalue="no")]), "raised ValueError: no"),
        (_code(outputs=[new_output("stream", name="stderr", text="careful")]), "wrote to stderr: 'careful'"),
        (_code(outputs=[new_output("stream", name="stdout", text="x" * 400_000)]), "at most 400 kB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_cell_is_refused(cell, reason):
    found = hygiene.problems(new_notebook(cells=[new_markdown_cell("# 99 A chapter"), cell]))
    assert len(found) == 1
    assert reason in found[0]


def test_two_figures_in_a_cell_are_refused():
    cell = _figure()
    cell.outputs *= 2
    assert "draws 2 figures" in hygiene.problems(new_notebook(cells=[new_markdown_cell("# 99"), cell]))[0]


@pytest.mark.parametrize("cells", [[], [_code()], [new_markdown_cell("## Not a title")]], ids=["empty", "code", "h2"])
def test_a_notebook_without_a_title_is_refused(cells):
    assert "title" in hygiene.problems(new_notebook(cells=cells))[0]


def test_making_a_chapter(folder, monkeypatch):
    monkeypatch.setenv("GEONORM_DATA", "/somewhere")
    text = folder / "text" / "99_chapter.md"
    variables = "os.environ.get('GEONORM_DATA'), os.environ['OMP_NUM_THREADS'], os.path.basename(os.getcwd())"
    text.write_text(_text(f"import os\n{variables}", "", SHOW))
    record = execute.make(text)
    first = (folder / "99_chapter.ipynb").read_bytes()
    notebook = nbformat.reads(first, as_version=4)
    assert notebook.cells[2].outputs[0].data["text/plain"] == "(None, '1', 'notebooks')"
    assert [cell.id for cell in notebook.cells] == ["0", "1", "2", "3", "4"]
    assert hygiene.alt_text(notebook.cells[4]) == "A dot."
    assert notebook.cells[4].outputs[0].metadata == {}
    assert record.bytes == len(first)
    assert 0.1 < record.cpu_seconds < 60
    assert 10 < record.memory_mb < 300, "the memory of the kernel, not of the process that started it"
    execute.make(text)
    assert (folder / "99_chapter.ipynb").read_bytes() == first
    assert hygiene.differences(text) == []


def test_a_notebook_opened_alone_fetches_the_library_first(folder, monkeypatch):
    text = folder / "text" / "99_chapter.md"
    # Whoever edits the notebook and carries it over has the cell in the text, too.
    for cells in (["1"], [hygiene.FETCH, "1"]):
        text.write_text(_text(*cells))
        notebook = hygiene.convert(text)
        assert [cell.source for cell in notebook.cells[1:]] == [hygiene.FETCH, "1"]
        assert notebook.cells[1].metadata.tags == ["remove-cell"], "the site does not show it"
    python = TransformerManager().transform_cell(hygiene.FETCH)
    for spec, asked in ((None, ["clone", "pip", "cd"]), ("found", [])):
        called = []
        monkeypatch.setattr("importlib.util.find_spec", lambda name, spec=spec: spec)
        shell = types.SimpleNamespace(
            run_line_magic=lambda magic, line, called=called: called.append((magic, line)),
            system=lambda line, called=called: called.append(("clone", line)),
        )
        exec(python, {"get_ipython": lambda shell=shell: shell})
        assert [name for name, _ in called] == asked
    assert f"clone -q --depth 1 {hygiene.REPOSITORY} geonorm-book" in hygiene.FETCH
    # Chapters read results of long runs beside their own folder.
    assert hygiene.FETCH.endswith("%cd -q geonorm-book/notebooks")


def test_a_refusal_leaves_the_old_notebook_alone(folder):
    text = folder / "text" / "99_chapter.md"
    (folder / "99_chapter.ipynb").write_text("old")
    for bad, reason in [("1 / 0", "ZeroDivisionError"), ("import sys; print('late', file=sys.stderr)", "stderr")]:
        text.write_text(_text(bad))
        with pytest.raises(execute.Refused, match=reason):
            execute.make(text)
        assert sorted(os.listdir(folder)) == ["99_chapter.ipynb", "text"]
        assert (folder / "99_chapter.ipynb").read_text() == "old"


def test_differences_between_text_and_notebook_are_named(folder):
    text = folder / "text" / "99_chapter.md"
    text.write_text(_text("1 + 1"))
    assert hygiene.differences(text) == ["99_chapter.ipynb is missing"]
    (folder / "99_chapter.ipynb").write_text(hygiene.serialized(hygiene.convert(text)))
    assert hygiene.differences(text) == []
    text.write_text(_text("1 + 2"))
    assert hygiene.differences(text) == ["cell 2: source differs: text '1 + 2', notebook '1 + 1'"]
    text.write_text(_text("1 + 1", "2 + 2"))
    assert hygiene.differences(text) == ["4 cells in the text, 3 in the notebook"]


def test_an_unknown_chapter_is_refused_with_the_known_ones(folder):
    (folder / "text" / "99_chapter.md").write_text(_text("1"))
    assert [path.stem for path in execute.chosen(["99"])] == ["99_chapter"]
    with pytest.raises(SystemExit, match="nothing starts with 98; there are: 99_chapter"):
        execute.chosen(["98"])


def test_a_page_of_the_book_is_made_like_a_chapter_and_comes_after_them(folder, capsys):
    chapter, page = folder / "text" / "99_chapter.md", folder.parent / "book" / "text" / "errata.md"
    page.write_text(_text("import os\nos.path.basename(os.getcwd())"))
    chapter.write_text(_text("1"))
    assert execute.chosen([]) == [chapter, page]
    assert execute.chosen(["err"]) == [page]
    execute.make(page)
    notebook = nbformat.read(folder.parent / "book" / "errata.ipynb", as_version=4)
    assert notebook.cells[2].outputs[0].data["text/plain"] == "'book'", "a page runs in its own folder"
    assert execute.check([page]) == 0
    (folder.parent / "book" / "alone.ipynb").write_text("")
    assert execute.check([page]) == 1
    assert "alone: the notebook has no text in book/text" in capsys.readouterr().out


def test_formatting_changes_code_and_nothing_else(folder):
    text = folder / "text" / "99_chapter.md"
    text.write_text(_text("x = 1", "y = [1,2]") + "\nProse with  two spaces, and `y = [1,2]`.\n")
    assert hygiene.put_in_style(text) == 1
    assert text.read_text() == _text("x = 1", "y = [1, 2]") + "\nProse with  two spaces, and `y = [1,2]`.\n"
    assert hygiene.put_in_style(text) == 0


def test_prose_is_taken_over_with_the_outputs_that_were_there(folder):
    text = folder / "text" / "99_chapter.md"
    text.write_text(_text("print('six')", SHOW))
    execute.make(text)
    path = folder / "99_chapter.ipynb"
    before = nbformat.read(path, as_version=4)
    text.write_text(
        text.read_text().replace("# 99 A chapter", "# 99 A chapter\n\nWith a new sentence.\n\n+++\n\nAnd a cell.")
    )
    assert hygiene.differences(text) != []
    assert execute.take_over_prose([text]) == 0
    after = nbformat.read(path, as_version=4)
    assert hygiene.differences(text) == []
    assert len(after.cells) == len(before.cells) + 1
    old, new = ([c for c in notebook.cells if c.cell_type == "code"] for notebook in (before, after))
    assert [(c.outputs, c.execution_count, c.metadata) for c in new] == [
        (c.outputs, c.execution_count, c.metadata) for c in old
    ]


def test_prose_is_not_taken_over_where_code_has_changed(folder, capsys):
    text = folder / "text" / "99_chapter.md"
    text.write_text(_text("print('six')"))
    assert execute.take_over_prose([text]) == 1
    execute.make(text)
    content = (folder / "99_chapter.ipynb").read_text()
    text.write_text(_text("print('seven')"))
    assert execute.take_over_prose([text]) == 1
    assert "execute it" in capsys.readouterr().err
    assert (folder / "99_chapter.ipynb").read_text() == content


def test_costs_are_kept_beside_those_of_other_notebooks(tmp_path):
    path = tmp_path / "results" / "notebooks.json"
    costs.keep(path, [costs.Cost("02_b", 10.0, 1.2, 333.0, 2_000), costs.Cost("01_a", 20.0, 2.0, 444.0, 3_000)])
    costs.keep(path, [costs.Cost("02_b", 30.0, 3.4, 555.0, 5_600)])
    kept = json.loads(path.read_text())
    assert [*kept] == ["01_a", "02_b"]
    numbers = ("seconds", "cpu_seconds", "memory_mb", "kilobytes")
    assert [kept["01_a"][name] for name in numbers] == [20, 2, 440, 3]
    assert [kept["02_b"][name] for name in numbers] == [30, 3, 560, 6]
    assert kept["02_b"]["versions"]["torch"].startswith("2.")
    assert sorted(os.listdir(path.parent)) == ["notebooks.json"]
