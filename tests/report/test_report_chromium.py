"""The page in a real browser: nothing scrolls sideways, and the console stays empty."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedense.report import read_run, write_reports

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
MEASURE = """<script>
const wide = [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre'));
const beyond = wide.filter(e => e.getBoundingClientRect().right > innerWidth + 1);
const size = {inner: innerWidth, scroll: document.documentElement.scrollWidth};
const places = beyond.map(e => e.outerHTML.slice(0, 80));
parent.postMessage(JSON.stringify({...size, beyond: places}), "*");
</script></body>"""
# a window has at least 500 pixels, a frame has what it is given
FRAME = """<!doctype html><title></title>
<script>onmessage = event => { document.title = event.data; };</script>
<iframe src="measured.html" style="border: 0; width: %dpx; height: 900px"></iframe>"""


def chromium(page: Path, home: Path, width: int, *words: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    place = [f"--user-data-dir={home}", f"--window-size={width},900"]
    command = [BROWSER, *fixed, *place, "--enable-logging=stderr", *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture
def page(run: Path) -> Path:
    write_reports(read_run(run), run)
    return run / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_scrolls_sideways(page: Path, tmp_path: Path, width: int) -> None:
    text = page.read_text()
    copy = tmp_path / "measured.html"
    without_policy = re.sub(r"<meta http-equiv=[^>]*>", "", text)
    copy.write_text(without_policy.replace("</body>", MEASURE))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME % width)
    waiting = "--virtual-time-budget=5000"
    done = chromium(frame, tmp_path / "home", 1400, "--dump-dom", waiting)
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert found is not None, done.stderr
    assert found[1] == f'{{"inner":{width},"scroll":{width},"beyond":[]}}'


def test_the_console_stays_empty(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    done = chromium(page, tmp_path / "home", 1280, "--dump-dom")
    assert "<h1" in done.stdout
    assert "CONSOLE" not in done.stderr
    # and it would be seen there: what the policy forbids is told on the console
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text().replace("</body>", "<script>1</script></body>"))
    assert "CONSOLE" in chromium(bad, tmp_path / "home", 1280, "--dump-dom").stderr


def test_a_sweep_fits_too(chain: Callable[..., None], tmp_path: Path) -> None:
    for number in range(6):
        name = f"second-0.{number}-int8-block-with-a-long-name-{'x' * 20}"
        chain(name=name, engine={"top1": 90.0 + number}, drop_pp=4.5 - number)
    run = tmp_path / "made"
    write_reports(read_run(run), run)
    test_nothing_scrolls_sideways(run / "report.html", tmp_path, 390)
