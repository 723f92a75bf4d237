"""Two processes of torchrun train as one with the same images a step does, and one goes on where two stopped."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes_script import CASES, data
from sample_training import few_digits, tiny, without_batchnorm

from lwcourse.cli import main
from lwcourse.train import History, evaluate, fit

SCRIPT = Path(__file__).with_name("processes_script.py")


def torchrun(*arguments: str, timeout: int = 300) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                           *arguments], env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    result = torchrun(str(SCRIPT), str(path))
    assert result.returncode == 0, result.stderr[-3000:]
    return path


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_with_the_same_images(folder, name):
    model = without_batchnorm()
    expected = fit(model, data(name == "everything"), progress=False, device="cpu", **CASES[name])
    found = History.from_dict(json.loads((folder / f"{name}.json").read_text()))
    assert len(found.step_losses) == len(expected.step_losses) == {"uneven batches": 16, "everything": 4}[name]
    assert found.step_losses == pytest.approx(expected.step_losses, rel=1e-4)
    for mine, theirs in zip(found.epochs, expected.epochs, strict=True):
        assert mine.train == pytest.approx(theirs.train, rel=1e-4)
        assert mine.test == pytest.approx(theirs.test, rel=1e-4)
    for key, value in torch.load(folder / f"{name}.pt", weights_only=True).items():
        torch.testing.assert_close(value, model.state_dict()[key], rtol=1e-3, atol=1e-5)
    assert found.settings["processes"] == 2


def test_one_process_goes_on_where_two_stopped(folder):
    resumed = fit(without_batchnorm(seed=1), few_digits(), progress=False, device="cpu", resume=True,
                  checkpoint=folder / "stopped.pt", **CASES["uneven batches"])
    expected = fit(without_batchnorm(), few_digits(), progress=False, device="cpu", **CASES["uneven batches"])
    assert resumed.step_losses == pytest.approx(expected.step_losses, rel=1e-4)
    assert resumed.epochs[0].train == pytest.approx(expected.epochs[0].train, rel=1e-4)
    assert resumed.final.test == pytest.approx(expected.final.test, rel=1e-4)


def test_each_image_is_tested_once(folder):
    model = tiny()
    model.load_state_dict(torch.load(folder / "evaluated.pt", weights_only=True))
    expected = evaluate(model, few_digits(), batch_size=30, device="cpu")
    for rank in range(2):
        accuracy, loss, count = json.loads((folder / f"evaluated {rank}.json").read_text())
        assert (accuracy, count) == (expected.accuracy, 100) and loss == pytest.approx(expected.loss, rel=1e-5)


def test_the_command_spreads_a_run_and_one_process_goes_on(tmp_path, capsys):
    """One log and one checkpoint; a process that dies ends all, and the run can go on."""
    run = tmp_path / "run"
    arguments = ["mobilenet_v1", "--width", "0.25", "--data", "digits", "--image-size", "32", "--workers", "0",
                 "--epochs", "2", "--batch-size", "128", "--device", "cpu", "--out", str(run),
                 "--checkpoint-steps", "2"]
    death = ("import os, sys, time, lwcourse.train.run as r; step = r.Run._step\n"
             "import lwcourse.train.folder as f; look = f.RunFolder.check_new\n"
             "def look_late(self):\n"  # when the first process has written its settings there
             "    if os.environ['RANK'] == '1': time.sleep(5)\n"
             "    look(self)\n"
             "f.RunFolder.check_new = look_late\n"
             "def die(self, *rest):\n"
             "    if self.done_steps == 8 and self.processes.rank == 1: os._exit(3)\n"
             "    return step(self, *rest)\n"
             "r.Run._step = die\n"
             "from lwcourse.cli import main; sys.exit(main(sys.argv[1:]))\n")
    (tmp_path / "dying.py").write_text(death)
    result = torchrun(str(tmp_path / "dying.py"), "train", *arguments)
    assert result.returncode != 0 and len(re.findall("^epoch 1 of 2", result.stdout, re.M)) == 1
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["batch_size"] == 256 and config["processes"] == 2
    saved = torch.load(run / "last.pt", weights_only=True)
    assert saved["position"]["step"] == 2  # of the second epoch of 6 steps
    capsys.readouterr()
    assert main(["train", "--resume", "--out", str(run), "--workers", "0", "--device", "cpu"]) == 0
    assert "2 of 2 epochs" in capsys.readouterr().out
    assert {path.name for path in run.iterdir()} >= {"last.pt", "best.pt", "metrics.csv"}
