"""The report is one file that holds the answer, the numbers of the tables and nothing that could harm its reader."""

import json
import re
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from groupwise.report import write_picture, write_report
from groupwise.report.page import embedded_json
from multilevel.errors import PublishError

RULE = {"rule_id": "amount_not_negative", "severity": "critical", "why": "Money comes in.", "unexpected": 31_337, "success": True}
VALIDATION = {"rows": 1_470_000, "quarantined": 31_337, "left": 1_438_663, "rules": [RULE]}


@pytest.fixture(scope="module")
def tables(make_tables):
    return make_tables()


@pytest.fixture(scope="module")
def page(make_tables, tables, study, tmp_path_factory):
    destination = tmp_path_factory.mktemp("report") / "reports" / "report.html"
    report = {"priors": {"Intercept": "Normal(0.9, 2.5)"}, "group_level_lines": [a_line()]}
    write_report(tables, report, VALIDATION, destination, study=study, previous_tables=make_tables(seed=2))
    return destination.read_text(encoding="utf-8")


def a_line() -> dict[str, object]:
    levels = ["Under 15K", "15-24K", "25-34K"]
    line = {"x": [0.0, 1.0], "estimate": [0.8, 0.9], "lower": [0.7, 0.85], "upper": [0.9, 0.95]}
    names = {"grouping_factor": "income_group", "term": "Intercept", "predictor": "income_rank", "levels": levels, "parents": [None] * 3}
    return names | {"n": [5, 6, 7], "x": [0.0, 0.5, 1.0], "estimate": [0.8, 0.9, 0.9], "lower": [0.7] * 3, "upper": [1.0] * 3, "line": line}


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_nothing_is_loaded_from_the_network(page):
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']\s*(https?:)?//""", without_scripts)
    assert "@import" not in page
    assert "url(" not in without_scripts


def test_the_sections_come_in_their_order(page):
    found = re.findall(r'<section id="([a-z]+)"', page)
    assert found == [
        "answer",
        "changes",
        "groups",
        "shrinkage",
        "predictors",
        "slopes",
        "combinations",
        "variance",
        "pooling",
        "predictive",
        "quality",
        "priors",
        "diagnostics",
        "model",
        "reproduce",
    ]


def test_the_answer_has_four_paragraphs_with_numbers_of_the_tables(page, tables):
    answer = re.findall(r'<p class="lead">(.*?)</p>', page)
    points = re.findall(r"<li>(.*?)</li>", page[page.index('<ul class="lead">') :].partition("</ul>")[0])
    assert len(answer) == 4
    incomes = tables["group_estimates"].filter((pc.field("grouping_factor") == "income_group") & ~pc.field("is_new"))
    highest = incomes.sort_by([("estimate", "descending")]).slice(0, 1).to_pylist()[0]
    assert f"${highest['estimate']:.2f} ({highest['level']};" in answer[0]
    assert "$2.40" in answer[0]
    assert "their average of" in answer[1]
    assert "−11.3\N{NO-BREAK SPACE}%" in points[0]  # exp(-0.12) - 1


def test_the_page_holds_the_published_estimates(page, tables):
    columns = data_of(page)["datasets"]["levels/department:category_key"]
    published = tables["group_estimates"].filter((pc.field("grouping_factor") == "department:category_key") & ~pc.field("is_new"))
    for name, short in (("estimate", "estimate"), ("no_pooling_estimate", "none"), ("n", "n")):
        assert columns[short] == pytest.approx(published.column(name).to_pylist(), rel=1e-4)


def test_every_chart_has_a_caption_a_description_and_a_place(page):
    figures = data_of(page)["figures"]
    assert len(figures) >= 9
    assert page.count("<figcaption>") == len(figures)
    speaks = re.findall(r'<p class="speaks">(.*?)</p>', page)
    assert len(speaks) == len(figures)
    assert all(words.endswith(".") for words in speaks)
    for figure in figures:
        assert f'data-figure="{figure["id"]}" role="img" aria-label="' in page


def test_a_failed_check_is_a_banner(page):
    banner = page[page.index('class="banner"') : page.index("<section")].replace("<wbr>", "")
    assert banner.index("Intervals and shares of single outcomes may be off") < banner.index("1 check did not pass")
    assert "posterior_predictive_sd" in banner


def test_data_quality_counts_what_was_put_aside_and_says_why(page):
    quality = page[page.index('<section id="quality"') : page.index('<section id="priors"')].replace("<wbr>", "")
    for words in ("amount_not_negative", "31,337", "Money comes in.", "1,470,000", "1,438,663"):
        assert words in quality


def test_what_changed_counts_moves_and_names_the_largest(page):
    assert "of 137 groups moved by more than 2\N{NO-BREAK SPACE}% of the earlier estimate: " in page
    assert "Groups that moved" in page


def test_new_and_gone_groups_are_named(make_tables, study, tmp_path):
    fewer = make_tables()
    fewer["group_estimates"] = fewer["group_estimates"].filter((pc.field("level") != "250K+") | pc.field("is_new"))
    text = write_report(make_tables(), {}, {}, tmp_path / "r.html", study=study, previous_tables=fewer).read_text(encoding="utf-8")
    assert "New groups: 1; gone: 0." in text
    assert "New: income_group: 250K+." in text


def test_a_label_can_never_become_a_script(make_tables, study, tmp_path):
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & <!--"
    text = write_report(make_tables(hostile=hostile), {}, {}, tmp_path / "r.html", study=study | {"title": hostile}).read_text(
        encoding="utf-8"
    )
    assert "<script>alert(1)" not in text
    assert "<img src=x" not in text
    assert hostile in data_of(text)["datasets"]["levels/department:category_key"]["level"]


def test_embedded_json_reads_back_as_it_was():
    value = {"a": ["</script>", "<!--", "&amp;", 'quo"te', None, 1.5]}
    assert json.loads(embedded_json(value)) == value
    assert "<" not in embedded_json(value)


def test_embedded_json_writes_out_what_would_act_on_a_page():
    assert json.loads(embedded_json({"\u202ea": ["\u2028", "\x1b]0;x\x07", "\x00"]})) == {
        "\\u202ea": ["\\u2028", "\\x1b]0;x\\x07", "\\x00"]
    }


@pytest.mark.operations
def test_ten_thousand_groups_stay_under_six_megabytes_and_are_made_in_seconds(make_tables, study, tmp_path):
    tables = make_tables(10_000)
    start = time.perf_counter()
    path = write_report(tables, {}, {}, tmp_path / "r.html", study=study)
    assert time.perf_counter() - start < 10  # 0.4 s where the charting library is already bundled, 2 s otherwise
    assert path.stat().st_size < 6_000_000
    assert len(data_of(path.read_text(encoding="utf-8"))["datasets"]["levels/department:category_key"]["level"]) == 10_000


def test_a_thousand_groups_stay_under_two_megabytes(make_tables, study, tmp_path):
    path = write_report(make_tables(1_000), {}, {}, tmp_path / "r.html", study=study)
    assert path.stat().st_size < 2_000_000
    assert len(data_of(path.read_text(encoding="utf-8"))["datasets"]["levels/department:category_key"]["level"]) == 1_000


def test_tables_can_be_read_from_their_folder(tables, study, tmp_path):
    folder = tmp_path / "dt=2018-01-02" / "rev=run-1"
    folder.mkdir(parents=True)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    assert "$2.40" in write_report(folder, {}, {}, tmp_path / "r.html", study=study).read_text(encoding="utf-8")
    (folder / "diagnostics.parquet").unlink()
    with pytest.raises(PublishError, match="diagnostics"):
        write_report(folder, {}, {}, tmp_path / "r.html", study=study)


def test_a_report_that_cannot_be_written_leaves_the_old_one(tables, study, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file, not a folder")
    with pytest.raises(PublishError, match="cannot write"):
        write_report(tables, {}, {}, taken / "r.html", study=study)


@pytest.mark.parametrize(
    "family",
    ["binomial", "poisson", "gaussian", *(pytest.param(name, marks=pytest.mark.operations) for name in ("negative_binomial", "gamma"))],
)
def test_every_family_has_a_report(make_tables, study, tmp_path, family):
    formula = "y ~ 1 + on_sale + (1 + on_sale | department/category_key)"
    words = {"family": family, "formula": formula, "currency": None, "unit": "items"}
    text = write_report(make_tables(20), {}, {}, tmp_path / "r.html", study={**study, **words}).read_text(encoding="utf-8")
    shown = {"binomial": "On sale higher by 1: the outcome (items) is lower", "gaussian": "On sale higher by 1: −0.12"}
    assert shown.get(family, "On sale higher by 1: −11.3\N{NO-BREAK SPACE}%") in text
    answer = " ".join(re.findall(r'<p class="lead">(.*?)</p>', text))
    assert "odds" not in answer and "log" not in answer


def test_the_mathematics_are_those_of_the_fit(make_tables, study, tmp_path):
    lines = ("<math><mrow><mi>y</mi><mo>=</mo><mtext>log(sales &lt; 3)</mtext></mrow></math>", "<math><mrow><mi>μ</mi></mrow></math>")
    facts = {"mathematics": {"mathml": lines}}
    text = write_report(make_tables(20), facts, {}, tmp_path / "r.html", study=study).read_text(encoding="utf-8")
    assert all(line in text for line in lines)
    assert 'class="mathematics"' not in write_report(make_tables(20), {}, {}, tmp_path / "s.html", study=study).read_text(encoding="utf-8")


def test_a_study_without_predictors_cells_or_history_still_has_a_report(make_tables, tmp_path):
    tables = make_tables(20)
    tables["cell_estimates"] = tables["cell_estimates"].slice(0, 0)
    tables["population_coefficients"] = tables["population_coefficients"].filter(pc.field("term") == "Intercept")
    tables["group_coefficients"] = tables["group_coefficients"].filter(pc.field("term") == "Intercept")
    nothing = pa.nulls(tables["group_estimates"].num_rows, pa.float64())
    place = tables["group_estimates"].schema.get_field_index("no_pooling_estimate")
    tables["group_estimates"] = tables["group_estimates"].set_column(place, "no_pooling_estimate", nothing)
    text = write_report(tables, {}, {}, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "This is the first version" in text
    found = re.findall(r'<section id="([a-z]+)"', text)
    assert not {"combinations", "slopes", "shrinkage", "predictors"} & set(found)


def test_a_still_picture_is_a_small_png(tables, study, tmp_path):
    path = write_picture(tables, study, tmp_path / "images" / "picture.png")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert 20_000 < len(content) < 400_000
