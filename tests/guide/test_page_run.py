"""How a page of the guide is run: what is shown, what is hidden, and what ends the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.guide.build_pages import made
from benchmarks.guide.figures import figure
from benchmarks.guide.page_run import PageError, run_page
from benchmarks.guide.wording import interval, money, number, percent, table


def run(text: str, folder: Path) -> str:
    return run_page("page.md", text, {"twice": lambda value: 2 * value}, folder)


def test_shown_code_is_followed_by_what_it_printed_and_sentences_have_its_values(tmp_path: Path) -> None:
    made_page = run("```python run\nx = 20\nprint('x is', x)\n```\nTwice that is {{ twice(x) }}.\n", tmp_path)
    assert made_page == "```python\nx = 20\nprint('x is', x)\n```\n\n``` { .text .output }\nx is 20\n```\nTwice that is 40.\n"


def test_hidden_code_is_not_shown_and_shown_code_does_not_see_it(tmp_path: Path) -> None:
    assert run("```python hidden\nsecret = twice(21)\n```\n{{ secret }}\n", tmp_path) == "42\n"
    with pytest.raises(PageError, match=r"page\.md, line 4: NameError: name 'secret'"):
        run("```python hidden\nsecret = 1\n```\n```python run\nprint(secret)\n```\n", tmp_path)


def test_hidden_code_sees_what_shown_code_made(tmp_path: Path) -> None:
    assert run("```python run\nx = 3\n```\n```python hidden\ny = x + 1\n```\n{{ y }}", tmp_path).endswith("\n4")


def test_files_are_written_where_commands_run(tmp_path: Path) -> None:
    text = "```text file=data/words.txt\none two\n```\n```sh run\npython -c \"print(open('data/words.txt').read().split())\"\n```\n"
    made_page = run(text, tmp_path)
    assert '``` { .text title="data/words.txt" }' in made_page and "['one', 'two']" in made_page


def test_a_command_that_fails_ends_the_page_unless_it_is_to_fail(tmp_path: Path) -> None:
    line = "python -c \"raise SystemExit('no such thing')\""
    with pytest.raises(PageError, match="exit 1: no such thing"):
        run(f"```sh run\n{line}\n```\n", tmp_path)
    assert "\nno such thing\n" in run(f"```sh run fails\n{line}\n```\n", tmp_path)
    with pytest.raises(PageError, match="exit 0"):
        run("```sh run fails\npython -c 0\n```\n", tmp_path)


def test_outputs_are_cut_and_name_no_folder_of_this_machine(tmp_path: Path) -> None:
    text = "```python run most=2\nimport os\nprint(os.getcwd() + '/here', *range(3), sep='\\n')\n```\n"
    assert "\nhere\n0\n... 2 more lines\n" in run(text, tmp_path.resolve())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ nowhere }}", "'nowhere' is undefined"),
        ("```python run\nassert 1 > 2\n```\n", "line 1: AssertionError"),
        ("```python\nprint(1)\n```\n", "must be run, hidden, or a file"),
        ("```rust run\nfn main() {}\n```\n", "nothing runs rust"),
    ],
)
def test_what_cannot_be_run_is_named(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(PageError, match=says):
        run(text, tmp_path)


def test_no_line_divides_a_number_from_its_per_cent_sign_but_code_is_left_as_it_is(tmp_path: Path) -> None:
    assert run("From 10 % to {{ 2 * 10 }} %, `moved: 2 %`.\n", tmp_path) == "From 10\u00a0% to 20\u00a0%, `moved: 2 %`.\n"


def test_sql_reads_files_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2\n", encoding="utf-8")
    assert "3" in run("```sql run\nselect sum(x) as total from 'a.csv'\n```\n", tmp_path)


def test_links_out_of_the_documents_become_names_of_files() -> None:
    assert (
        made("schedule.md", "see [prefect.yaml](../prefect.yaml) and [how](../flows/a.yaml)")
        == "see `prefect.yaml` and how (`flows/a.yaml`)"
    )
    assert made("decisions/0009.md", "[reliability](../reliability.md)") == "[reliability](../reliability.md)"
    assert made("tables.md", "| `(1 \\| g)` | a \\| b |") == "| `(1 | g)` | a \\| b |"


def test_a_figure_has_two_drawings_in_the_pages_colours_each_with_its_alternative_text() -> None:
    import altair

    def draw(width: int) -> altair.Chart:
        chart = altair.Chart(altair.Data(values=[{"x": 1, "y": "a"}])).mark_point(color="var(--partial)")
        return chart.encode(x="x:Q", y="y:N").properties(width=width, height=60)

    drawn = figure(draw, alt='One point, "a"', caption="**A point.**")
    assert drawn.count('<svg role="img" aria-label="One point, &quot;a&quot;"') == 2
    assert "var(--partial)" in drawn and "**A point.**" in drawn
    assert 'class="wide"' in drawn and 'class="narrow"' in drawn


def test_numbers_are_worded_for_readers() -> None:
    assert (money(-3.456), number(-1234.5, 1), percent(-0.125, 1)) == ("−$3.46", "−1,234.5", "−12.5\u00a0%")
    assert interval({"lower": -1.0, "upper": 2.5}) == "−$1.00\u00a0to\u00a0$2.50"
    assert table(["a", "n"], [["x|y", "3"]]) == "| a | n |\n| --- | --: |\n| x\\|y | 3 |\n"
