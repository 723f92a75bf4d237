"""A run that is killed at any moment goes on to the weights of a run that was not: bit by bit, on the CPU."""
import csv
import os
import subprocess
import sys
import textwrap

import pytest
import torch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
KILLS = 10
ARGUMENTS = ["train", "mobilenet_v1", "--width", "0.25", "--data", "digits", "--image-size", "32", "--workers", "0",
             "--epochs", "4", "--batch-size", "128", "--lr", "0.1", "--device", "cpu", "--set", "ema=0.9",
             "--set", "mixup=0.2", "--checkpoint-steps", "1", "--resume"]
# Forks a process a try, as an import of PyTorch takes longer than all that a try does.
DRIVER = """
    import os, random, signal, sys, time
    from pathlib import Path
    import lwcourse.data, lwcourse.train.folder, lwcourse.viz.curves  # before forking, as is what they load when used
    import sklearn.datasets, sklearn.model_selection, torch._dynamo, torchvision.transforms.v2
    from lwcourse.cli import main

    out, kills, arguments = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    random.seed(0)

    def attempt():
        child = os.fork()
        if child == 0:
            code = 9
            try:
                code = main([*arguments, "--out", str(out)])
            finally:
                sys.stdout.flush()
                os._exit(code)
        return child

    def stamp():
        try:
            return (out / "last.pt").stat().st_mtime_ns
        except FileNotFoundError:
            return None

    for number in range(kills):
        before, child = stamp(), attempt()
        while stamp() == before:
            if os.waitpid(child, os.WNOHANG)[0]:
                sys.exit(f"try {number} ended by itself")
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL if number else signal.SIGINT)
        status = os.waitpid(child, 0)[1]
        print("ended with", os.waitstatus_to_exitcode(status), flush=True)
    status = os.waitpid(attempt(), 0)[1]
    print("ended with", os.waitstatus_to_exitcode(status), flush=True)
"""


def driven(out, kills: int) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(DRIVER), str(out), str(kills), *ARGUMENTS],
                            env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return [line for line in result.stdout.splitlines() if line.startswith("ended")] + [result.stderr]


def test_killed_at_ten_moments_a_run_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert driven(whole, 0)[:-1] == ["ended with 0"]
    *ends, errors = driven(killed, KILLS)
    assert ends == ["ended with 130", *["ended with -9"] * (KILLS - 1), "ended with 0"]
    assert f"interrupted; go on with: python -m lwcourse train --resume --out {killed}" in errors
    for name in ("last.pt", "best.pt"):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (whole, killed))
        for part in ("model", "average") if name == "last.pt" else ("state",):
            assert one[part].keys() == other[part].keys()
            assert all(torch.equal(one[part][key], other[part][key]) for key in one[part]), (name, part)
    rows = [[{**row, "seconds": ""} for row in csv.DictReader((folder / "metrics.csv").open())]
            for folder in (whole, killed)]
    assert len(rows[0]) == 4 and rows[0] == rows[1]
    assert not list(killed.glob("*.part*"))
