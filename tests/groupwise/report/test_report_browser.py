"""The report in a real browser: every chart drawn, search and sort at work, no error, no serious accessibility problem.

Needs Debian's chromium and Playwright's Python client (and axe-playwright-python for the last test); skipped where they are not there.
"""

import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest

from groupwise.report import write_report
from multilevel.catalogue.headline import TOLD

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright's Python client is not installed (pip install playwright)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.operations,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (apt-get install chromium)"),
]

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
FLAGS += ("--disable-component-update", "--disable-sync")
ARTEFACTS = Path(__file__).parent.parent / "artefacts"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as started:
        profile = str(tmp_path_factory.mktemp("profile"))
        size = {"width": 1280, "height": 900}
        context = started.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=list(FLAGS), viewport=size)
        yield context
        context.close()


@pytest.fixture(scope="module")
def file(make_tables, study, tmp_path_factory) -> Path:
    destination = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(make_tables(), {}, {}, destination, study=study, previous_tables=make_tables(seed=2))


@pytest.fixture
def page(browser, file):
    page = opened(browser, file)
    yield page
    page.close()


def opened(browser, file: Path):
    page = browser.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.problems.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    return page


def labels(page, figure: str) -> list[str]:
    """The texts of a chart, from the top."""
    texts = f"[...document.querySelectorAll('#{figure} .chart svg text')]"
    return page.evaluate(f"{texts}.map((t) => [t.getBoundingClientRect().y, t.textContent]).sort((a, b) => a[0] - b[0]).map((t) => t[1])")


def test_every_chart_is_drawn_without_an_error_or_a_request(page):
    drawn = page.evaluate("[...document.querySelectorAll('.chart')].map((c) => [c.dataset.drawn, c.querySelectorAll('svg path').length])")
    assert len(drawn) >= 9
    assert all(ready == "true" and marks > 5 for ready, marks in drawn)
    assert page.problems == []


def test_searching_a_chart_leaves_the_groups_that_match(page):
    figure = "caterpillar-department-category-key"
    assert len([text for text in labels(page, figure) if "CATEGORY" in text]) == 60
    page.fill(f"#{figure} [data-role=query]", "category 00007")
    page.wait_for_selector(f"#{figure} [data-role=status]:text-is('1 group')")
    page.wait_for_timeout(200)
    assert [text for text in labels(page, figure) if "CATEGORY" in text] == [
        text for text in labels(page, figure) if "CATEGORY 00007" in text
    ]


def test_ordering_a_chart_by_size_puts_the_largest_group_first(page):
    figure = "caterpillar-income-group"
    page.select_option(f"#{figure} [data-role=sort]", "n")
    page.wait_for_timeout(200)
    rows = page.evaluate("JSON.parse(document.getElementById('page-data').textContent).datasets['levels/income_group']")
    largest = rows["level"][rows["n"].index(max(rows["n"]))]
    assert next(text for text in labels(page, figure) if text in rows["level"]) == largest


def test_hovering_a_mark_tells_its_numbers(page):
    page.locator("#caterpillar-income-group").scroll_into_view_if_needed()
    page.locator("#caterpillar-income-group .chart svg .mark-symbol path").first.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    tooltip = page.inner_text("#vg-tooltip-element")
    assert "estimate" in tooltip
    assert "line items" in tooltip


def test_a_long_table_sorts_searches_and_shows_more(page):
    table = "details:has(table[data-dataset='levels/department:category_key'])"
    page.evaluate(f'document.querySelector("{table}").open = true')
    assert page.locator(f"{table} tbody tr").count() == 25
    page.click(f"{table} [data-role=more]")
    assert page.locator(f"{table} tbody tr").count() == 120
    page.click(f"{table} thead th[data-key=estimate] button")
    shown = page.eval_on_selector_all(
        f"{table} tbody tr td:nth-child(3)", "cells => cells.map((cell) => Number(cell.textContent.slice(1)))"
    )
    assert shown == sorted(shown, reverse=True)
    assert page.get_attribute(f"{table} thead th[data-key=estimate]", "aria-sort") == "descending"
    page.fill(f"{table} [data-role=query]", "category 00011")
    assert page.locator(f"{table} tbody tr").count() == 1


def test_a_short_table_sorts_by_keyboard(page):
    heading = page.locator("#diagnostics thead th button").nth(2)
    heading.focus()
    page.keyboard.press("Enter")
    values = page.eval_on_selector_all("#diagnostics tbody tr", "rows => rows.map((row) => Number(row.cells[2].dataset.value))")
    assert values == sorted(values)


def test_ten_thousand_groups_open_in_two_seconds(browser, make_tables, study, tmp_path):
    file = write_report(make_tables(10_000), {}, {}, tmp_path / "large.html", study=study)
    opened(browser, file).close()
    start = time.perf_counter()
    page = opened(browser, file)
    assert time.perf_counter() - start < 4  # 1.2 s on two quiet cores, every chart drawn
    page.close()


@pytest.mark.parametrize(("mode", "width"), [("light", 1280), ("dark", 1280), ("light", 400)])
def test_light_dark_and_narrow_fit_their_window(page, mode, width):
    page.emulate_media(color_scheme=mode)
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(17, 22, 28)") == (mode == "dark")
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / f"report_{mode}_{width}.png"), full_page=True)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_no_serious_problem(page, mode):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=mode)
    found = Axe().run(page).response["violations"]
    assert [(problem["id"], problem["nodes"][0]["html"][:120]) for problem in found if problem["impact"] in {"serious", "critical"}] == []


def test_groups_inside_several_others_can_be_told_apart(browser, make_tables, study, tmp_path):
    """What a level's name repeats of its parent is said once, and a long name keeps both of its ends."""
    tables = make_tables(4)
    estimates = tables["group_estimates"].to_pylist()
    nested = next(row for row in estimates if row["grouping_factor"] == "department:category_key" and row["level"] is not None)
    places = [(income, name) for income in ("15-24K", "250K+") for name in ("GROCERY / EGGS", "GROCERY / ORGANIC FRUIT AND VEGETABLES")]
    added = [
        nested | {"grouping_factor": "income:key", "level": name, "parent_level": f"{income}:GROCERY", "estimate": 2.0 + place}
        for place, (income, name) in enumerate(places)
    ]
    table = pa.Table.from_pylist(estimates + added, schema=tables["group_estimates"].schema)
    file = write_report({**tables, "group_estimates": table}, {}, {}, tmp_path / "nested.html", study=study)
    page = opened(browser, file)
    shown = [text for text in labels(page, "caterpillar-income-key") if "GROC" in text]
    assert shown[1::2] == ["250K+: GROCERY / EGGS", "15-24K: GROCERY / EGGS"]
    assert [text[:6] + text[-6:] for text in shown[0::2]] == ["250K+:TABLES", "15-24KTABLES"]
    assert page.problems == []
    page.close()


def test_the_steps_stand_beside_how_many_units_are_behind_them(browser, make_tables, study, tmp_path):
    """A mark for each step that the key names, and the number of households in a line of its own below the group's name."""
    tables = make_tables(4)
    estimates = tables["group_estimates"].to_pylist()
    for place, row in enumerate(row for row in estimates if row["grouping_factor"] == "income_group" and not row["is_new"]):
        row |= {name: row[name.removeprefix("population_")] for name in TOLD.values()}
        row |= {"headline": "population", "n_sampled": place + 1, "observed_mean": row["estimate"] + 0.2}
    table = pa.Table.from_pylist(estimates, schema=tables["group_estimates"].schema)
    sampled = {**study, "sampled": ["household_id"]}
    page = opened(browser, write_report({**tables, "group_estimates": table}, {}, {}, tmp_path / "steps.html", study=sampled))
    shown = labels(page, "steps-income-group")
    behind = [f"{n} household{'' if n == 1 else 's'}" for n in range(1, 10)]
    assert [words for words in behind if not any(text.endswith(words) for text in shown)] == []
    assert page.locator("#steps-income-group .keys li").all_inner_texts() == [
        "plain average of line items",
        "same mix for all",
        "same mix, and every household counts once",
        "pooled: the estimate, with its interval",
    ]
    assert page.locator("#steps-income-group .chart svg .mark-symbol path").count() == 4 * 9
    page.select_option("#steps-income-group [data-role=sort]", "mixed_by")
    page.wait_for_timeout(200)
    assert page.problems == []
    page.close()


HOSTILE = (
    "A\u2028B",
    "A\u2029B",
    "A\x1b]0;owned\x07",
    "A\x00B",
    "\u202egnirts",
    "</script><script>window.owned = 1</script>",
    "'];owned=1;//",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_level_name_breaks_a_chart_runs_or_turns_its_letters_round(browser, make_tables, study, tmp_path, name):
    page = opened(browser, write_report(make_tables(4, hostile=name), {}, {}, tmp_path / "hostile.html", study=study))
    drawn = page.evaluate("[...document.querySelectorAll('.chart')].map((chart) => chart.dataset.drawn)")
    assert set(drawn) == {"true"}
    assert page.evaluate("window.owned === undefined && !/[\\u0000\\u001b\\u202e\\u2028\\u2029]/.test(document.body.innerText)")
    assert page.problems == []
    page.close()


def test_the_policy_stops_scripts_styles_and_eval_that_are_not_the_pages_own(page):
    blocked = page.evaluate(
        """() => {
          const add = (name, text) => document.body.append(Object.assign(document.createElement(name), { textContent: text }));
          add("script", "window.owned = 1");
          add("style", "body { display: none }");
          // in a callback of the page: what the test itself evaluates is exempt from the policy
          const evaluated = new Promise((resolve) => setTimeout(() => {
            try { resolve(new Function("return true")()); } catch (error) { resolve(false); }
          }));
          const display = getComputedStyle(document.body).display;
          return evaluated.then((answer) => ({ owned: window.owned ?? null, display, evaluated: answer }));
        }"""
    )
    assert blocked == {"owned": None, "display": "block", "evaluated": False}
    assert page.evaluate("fetch('https://example.invalid').then(() => 'sent', () => 'refused')") == "refused"
