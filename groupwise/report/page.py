"""Put the page together: sections, embedded data, charting library, style and script, in one file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pyarrow as pa

from groupwise.html_page import as_markup, content_security_policy, page_environment
from groupwise.printable import printable, printable_lines, printable_value
from groupwise.report.charts import Figure
from groupwise.report.check_sections import failed_checks
from groupwise.report.dependence import dependence_line
from groupwise.report.failed_words import effects_of
from groupwise.report.part_labels import told_apart
from groupwise.report.sections import contents
from groupwise.report.subject import Subject, read_tables
from groupwise.report.theme import PAGE_COLOURS, chart_config
from groupwise.whole_files import write_whole
from multilevel.errors import PublishError

# where the page would be larger than this a browser starts to feel it
MOST_BYTES = 6_000_000


def write_report(
    tables: Mapping[str, pa.Table] | Path,
    report: Mapping[str, object],
    validation: Mapping[str, object],
    destination: Path,
    *,
    study: Mapping[str, object] | None = None,
    previous_tables: Mapping[str, pa.Table] | Path | None = None,
    cells: pa.Table | None = None,
    previous_cells: pa.Table | None = None,
    earlier: Sequence[pa.Table] = (),
) -> Path:
    """Write the report of one published version as a single HTML file that needs no network.

    Parameters
    ----------
    tables : the six published tables, or the folder that holds them.
    report : what the fit says besides its tables (priors, the model in words, versions); may be empty.
    validation : what was checked before the fit (``rules``: rule_id, severity, why, n_unexpected); may be empty.
    destination : the file to write; its folder is made. The file appears whole or not at all.
    study : the study's fields (title, question, formula, family, unit, currency, cells, interval, file).
    previous_tables : the tables of the version before, for what changed.
    cells, previous_cells : the cells of both versions' averages, for why it changed; None where they are not kept.
    earlier : ``group_estimates`` of earlier days' versions, oldest first, for the trend of every group.

    Raises
    ------
    PublishError
        If a table is missing or the file cannot be written.
    """
    previous = None if previous_tables is None else told_apart(read_tables(previous_tables))
    subject = Subject(told_apart(read_tables(tables)), study or {}, report, validation, previous, cells, previous_cells)
    subject = replace(subject, earlier=tuple(earlier)).with_labels()
    page = render(subject)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        building = destination.with_name(f".{destination.name}.{os.getpid()}")
        building.write_text(page, encoding="utf-8")
        building.replace(destination)
    except OSError as error:
        raise PublishError(f"report: cannot write {destination}: {error}.") from error
    return destination


def render(subject: Subject) -> str:
    """The page as text."""
    made, datasets = contents(subject)
    data = {
        "config": chart_config(PAGE_COLOURS),
        "datasets": datasets,
        "figures": [_figure(figure) for section in made for figure in section.figures],
        "outcome": _outcome_format(subject),
        "effects": subject.effect_kind,
    }
    # inside <style> and <script> nothing is escaped for HTML, so these are made safe where they are made
    css, libraries, script = _template("report.css"), _libraries(), _template("report.js")
    environment = page_environment()
    environment.filters |= {
        "breakable": _breakable,
        "kept_together": _kept_together,
        "markup": lambda text: as_markup(printable_lines(text)),
    }
    failed, narrow = failed_checks(subject), dependence_line(subject)
    return environment.from_string(_template("report.html.j2")).render(
        policy=content_security_policy(scripts=(libraries, script), styles=(css,)),
        title=subject.title,
        question=subject.text("question"),
        study=subject.constant("study"),
        as_of=subject.constant("as_of"),
        run_id=subject.constant("run_id"),
        engine=subject.constant("engine"),
        sections=made,
        failed=failed,
        effects=[line for line in (narrow, effects_of(failed, is_narrow_said=bool(narrow))) if line],
        css=as_markup(css),
        data=as_markup(embedded_json(data)),
        libraries=as_markup(libraries),
        script=as_markup(script),
    )


def embedded_json(value: object) -> str:
    """JSON that cannot end the script element it stands in, whatever the labels are; control and invisible characters are written out."""
    text = json.dumps(printable_value(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _figure(figure: Figure) -> dict[str, object]:
    shown: dict[str, object] = {"id": figure.id, "spec": figure.spec, "dataset": figure.dataset, "picker": figure.picker}
    return {**shown, "limit": figure.limit, "members": figure.members, "sort": figure.sorts[0][0] if figure.sorts else "estimate"}


def _outcome_format(subject: Subject) -> dict[str, object]:
    """Options of the browser's Intl.NumberFormat for numbers on the outcome's scale."""
    if subject.is_share:
        return {"style": "percent", "minimumFractionDigits": 1, "maximumFractionDigits": 1}
    currency = subject.text("currency")
    if len(currency) == 3:
        return {"style": "currency", "currency": currency, "currencyDisplay": "narrowSymbol"}
    return {"maximumSignificantDigits": 3}


def _breakable(text: str) -> object:
    """A name that may be broken after an underscore or a colon rather than in the middle of a word."""
    import markupsafe

    escaped = markupsafe.escape(printable(text))
    return escaped.replace("_", as_markup("_<wbr>")).replace(":", as_markup(":<wbr>"))


def _kept_together(text: str) -> object:
    """A number and its sign of per cent stay on one line, and so do short names with a hyphen in them (15-24K), a minus and its sum."""
    import markupsafe

    joined = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", printable_lines(text))
    pieces = re.split(r"((?<![\w-])\w{1,8}-\w{1,8}\+?(?![\w-])|−[^\s\d]\d[\d,.]*)", joined)
    whole = as_markup('<span class="whole">{}</span>')
    return as_markup("").join(whole.format(piece) if place % 2 else markupsafe.escape(piece) for place, piece in enumerate(pieces))


@cache
def _template(name: str) -> str:
    return (files("groupwise.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _libraries() -> str:
    """Vega, Vega-Lite and vega-embed as one script; nothing in it may end the script element.

    Bundling takes a second: what was made by this version of vl-convert is kept beside the bytecode, and made again where it is not whole.
    """
    kept = Path(__file__).parent / "__pycache__" / f"charting-{version('vl-convert-python')}.js"
    try:
        checksum, _, script = kept.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeError):
        checksum, script = "", ""
    if script and checksum == _checksum(script):
        return script
    script = _bundle()
    with suppress(OSError):  # an installation that cannot be written to makes it again for every report
        kept.parent.mkdir(exist_ok=True)
        write_whole(kept, f"{_checksum(script)}\n{script}")
    return script


def _bundle() -> str:
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _checksum(text: str) -> str:
    return sha256(text.encode()).hexdigest()
