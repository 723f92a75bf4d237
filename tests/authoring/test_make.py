"""The Makefile's virtual environment: made whole, also after its making was cut short."""
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

TARGET = ".venv/venv.stamp"


@pytest.fixture
def make(root, tmp_path):
    """make(...) starts make in a copy of the Makefile, in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    shutil.copy(root / "Makefile", folder)
    shutil.copy(root / "pyproject.toml", folder)

    def start(target: str = TARGET) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
        return subprocess.Popen(["make", target, f"PYTHON={sys.executable}"], cwd=folder, start_new_session=True,
                                env={**environment, "PIP_NO_INDEX": "1"}, text=True, stdout=subprocess.PIPE)
    start.folder = folder
    return start


def python(folder, *arguments: str) -> str:
    return subprocess.run([folder / ".venv" / "bin" / "python", *arguments], check=True, capture_output=True,
                          text=True).stdout


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("moment", ["bin/python", "lib/python*/site-packages/pip/_vendor/rich"])
def test_a_killed_make_is_mended_by_the_next(make, moment):
    first = make()
    while first.poll() is None and not list(make.folder.glob(f".venv/{moment}")):
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert not (make.folder / TARGET).exists(), "it was too quick for this test"
    second = make()
    assert "-m venv" in second.communicate()[0] and second.returncode == 0
    assert python(make.folder, "-m", "pip", "--version").startswith("pip ")
    assert python(make.folder, "-m", "pip", "check").startswith("No broken")

    (make.folder / ".venv" / "mine").touch()
    (make.folder / TARGET).unlink()  # as in an environment that its user has made, or an older Makefile
    third = make()
    assert third.communicate()[0] == "" and third.returncode == 0 and (make.folder / ".venv" / "mine").exists()
