"""A notebook's explorer in a real JupyterLab and Chromium: run all cells, move the slider, see the picture change."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lwcourse.authoring.files import notebook_text, read_notebook, write_if_changed

pytestmark = pytest.mark.notebook

ROOT = Path(__file__).parents[2]
SECONDS = 300  # for a whole chapter on a busy machine; nothing waits longer than it must


def browser_programs():
    """Chromium and its driver, or the reason why there is no browser test here."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    missing = [name for name, path in (("Chromium", chromium), ("chromedriver", driver)) if path is None]
    missing += [name for name in ("selenium", "jupyterlab") if not importable(name)]
    return chromium, driver, f"needs {' and '.join(missing)}" if missing else ""


def importable(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None


CHROMIUM, DRIVER, REASON = browser_programs()
needs_browser = pytest.mark.skipif(bool(REASON), reason=REASON)


def wait_until(condition, what, seconds=SECONDS):
    """The first true value of `condition()`, which may raise while the page changes."""
    from selenium.common.exceptions import WebDriverException

    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except (WebDriverException, OSError) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s in vain for {what}; the last error was {last!r}")


@pytest.fixture
def lab(tmp_path):
    """`lab(folder)` starts JupyterLab there and returns its address; it is stopped after the test."""
    started = []

    def start(folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {**os.environ, "TQDM_DISABLE": "1"}
        for variable in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR",
                         "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            environment[variable] = str(tmp_path / variable)
        with open(tmp_path / "server.log", "w", encoding="utf-8") as log:
            started.append(subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
                 f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
                 "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                 f"--ServerApp.root_dir={folder}"],
                env=environment, stdout=log, stderr=subprocess.STDOUT))
        address = f"http://127.0.0.1:{port}"

        def is_up():
            assert started[-1].poll() is None, (tmp_path / "server.log").read_text()
            with urllib.request.urlopen(f"{address}/api/status", timeout=5) as answer:
                return "kernels" in json.load(answer)

        wait_until(is_up, "JupyterLab to start", 120)
        return address

    yield start
    for server in started:
        server.terminate()  # ends its kernels too
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000",
                     f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def run_all_cells(browser):
    """Run → Run All Cells, once the kernel is idle by both signs: with the first alone the click is lost at times."""
    from selenium.webdriver.common.by import By

    server = "/".join(browser.current_url.split("/")[:3])

    def idle():
        indicator = browser.find_element(By.CSS_SELECTOR, ".jp-Notebook-ExecutionIndicator")
        with urllib.request.urlopen(f"{server}/api/kernels", timeout=5) as answer:
            kernels = json.load(answer)
        return (indicator.get_attribute("data-status") == "idle" and kernels != []
                and all(kernel["execution_state"] == "idle" for kernel in kernels))

    def click(selector, text):
        for item in browser.find_elements(By.CSS_SELECTOR, selector):
            if item.text.strip() == text:
                item.click()
                return True
        return False

    wait_until(idle, "the kernel to be idle", 120)
    wait_until(lambda: click(".lm-MenuBar-itemLabel", "Run"), "the Run menu", 30)
    wait_until(lambda: click(".lm-Menu-itemLabel", "Run All Cells"), "its item Run All Cells", 30)


def move_slider(browser):
    """Press ArrowRight on the first slider of the last explorer; its picture before and after.

    The picture changes when the kernel is done with the cells that "Run All" has queued.
    """
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def explorer():
        found = browser.find_elements(By.CSS_SELECTOR, ".widget-vbox:has(.widget-slider):has(img)")
        return found[-1] if found else None

    def source():
        return explorer().find_element(By.TAG_NAME, "img").get_attribute("src")

    handle = wait_until(explorer, "an explorer").find_element(By.CSS_SELECTOR, ".widget-slider .noUi-handle")
    before = wait_until(source, "the explorer's picture", 60)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", handle)
    handle.send_keys(Keys.ARROW_RIGHT)
    after = wait_until(lambda: (new := source()) != before and new, "the picture to change", 240)
    return before, after


def explore(path, lab, browser):
    browser.get(f"{lab(path.parent)}/doc/tree/{path.name}?reset")
    run_all_cells(browser)
    return move_slider(browser)


def chapter(name, folder):
    """A copy of a chapter without its stored outputs, so that what the page shows comes from this run."""
    nb = read_notebook(ROOT / "notebooks" / f"{name}.ipynb")
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    write_if_changed(folder / f"{name}.ipynb", notebook_text(nb))
    return folder / f"{name}.ipynb"


@needs_browser
@pytest.mark.parametrize("name", ["02_mobilenets"])
def test_chapter_in_the_browser(name, tmp_path, lab, browser):
    (tmp_path / "files").mkdir()
    before, after = explore(chapter(name, tmp_path / "files"), lab, browser)
    assert before.startswith(("blob:", "data:image/png")) and before != after
