"""The site is built as `make site` builds it: every page run, strict, nothing fetched, legible on a phone and in the dark."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.operations,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the site's generator is not installed (make site)"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from this checkout's pages; the shop and the published versions are reused where they are."""
    built = tmp_path_factory.mktemp("built") / "site"
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    for command in (["benchmarks.guide.build_pages"], ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return built


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """No line for each request."""


def pages_of(site: Path) -> list[str]:
    return [*sorted(page.relative_to(site).as_posix() for page in site.glob("guide/*.html")), "index.html"]


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//([^"]+)"', text)
        assert not fetched, (page.name, fetched)


def test_no_page_shows_what_should_have_been_evaluated_or_a_folder_of_this_machine(site: Path) -> None:
    for name in pages_of(site):
        text = (site / name).read_text(encoding="utf-8")
        assert "{{" not in text and "markdown=" not in text, name
        assert str(ROOT) not in text, name


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_pages_are_legible(site: Path, address: str, width: int, scheme: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith((address, "data:")) else problems.append(request.url))
        for name in pages_of(site):
            page.goto(f"{address}/{name}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            letters = page.evaluate("""[...document.querySelectorAll('figure.made svg')].filter((svg) => svg.getBoundingClientRect().width)
                .map((svg) => 13 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)""")
            assert all(size >= 11 for size in letters), (name, letters)
        assert problems == []
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (apt-get install chromium)")
@pytest.mark.parametrize("is_served", [True, False], ids=["from a server", "from a disk"])
def test_sliders_and_search_work(site: Path, address: str, is_served: bool) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.goto(f"{address if is_served else site.as_uri()}/guide/three-poolings.html")
        move = """(value) => {
            const input = document.querySelector('[data-input=tau]');
            input.value = value;
            input.dispatchEvent(new Event('input'));
        }"""
        places = "[...document.querySelectorAll('[data-chart] circle')].map((circle) => Math.round(circle.cx.baseVal.value))"
        page.evaluate(move, 0)
        assert len(set(page.evaluate(places))) == 1, "at tau = 0 all estimates are the common mean"
        page.evaluate(move, 8)
        assert len(set(page.evaluate(places))) > 5
        assert "Shrinkage" in page.inner_text("[data-said]")
        page.keyboard.press("/")
        page.wait_for_timeout(500)
        page.keyboard.type("shrinkage")
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        assert problems == []
        browser.close()
