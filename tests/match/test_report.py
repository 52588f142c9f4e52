"""What a reader sees of a report."""

import geonorm as gn


def test_a_report_shows_its_verdict_at_a_prompt_and_in_a_notebook() -> None:
    report = gn.check(gn.BatchNorm(12), "4x1o", task=gn.tasks.FORCES)
    assert repr(report) == str(report)
    assert "e-1" not in repr(report).replace("below 1e-10", ""), "round-off errors differ between machines"
    page = report._repr_html_()
    assert page.startswith("<div style="), "a wide table must scroll on a phone"
    assert 'role="region"' in page
    assert page.count("<tr>") == len(report.lines()) - 1
