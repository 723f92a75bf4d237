"""`python -m lwcourse`: each command through its own function, and one through the shell."""
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

import lwcourse as lw
from lwcourse import cli as command_line
from lwcourse.authoring import NotebookRun
from lwcourse.cli import environment


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = command_line.main(list(arguments))
    return code, *capsys.readouterr()


def test_list_has_every_network(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0 and all(name in out for name in lw.list_models()) and "mbv3_small" in out
    code, out, _ = run(capsys, "list", "--family", "MobileNetV1")
    assert code == 0 and "mobilenet_v1" in out and "mobilenet_v2" not in out


def test_show_sets_published_beside_counted(capsys):
    code, out, _ = run(capsys, "show", "mbv3_small")
    assert code == 0 and "Searching for MobileNetV3" in out and "https://arxiv.org/abs/1905.02244" in out
    row = next(line for line in out.splitlines() if line.startswith("width=0.75"))
    assert row.split() == ["width=0.75", "2", "2.04", "44", "43.40", "65.4"]


def test_show_and_list_say_what_kind_of_accuracy_is_published(capsys):
    _, out, _ = run(capsys, "show", "espnet_v1")
    rows = [line for line in out.splitlines() if line.startswith(("variant", "default"))]
    assert rows[0].endswith("mIoU (%): published") and rows[1].split()[-1] == "60.3" and "Cityscapes" in out
    _, out, _ = run(capsys, "show", "mbv2")
    assert "top-1 (%): published" in out and "mIoU" not in out
    _, out, _ = run(capsys, "list", "--family", "ESPNet")
    assert next(line for line in out.splitlines() if line.startswith("espnet_v1")).endswith("60.3 mIoU")


def test_profile_takes_size_and_width(capsys):
    code, out, _ = run(capsys, "profile", "mobilenet_v1", "--width", "0.25", "--input-size", "1", "64", "96")
    counted = lw.profile(lw.create_model("mobilenet_v1", 1000, 1, width=0.25), (1, 64, 96))
    assert code == 0 and f"{counted.macs:,}" in out and "1x64x96" in out


def test_latency_names_its_conditions(capsys):
    code, out, _ = run(capsys, "latency", "mbv1", "mbv2", "--input-size", "3", "32", "32", "--rounds", "2",
                       "--threads", "1", "--batch", "2", "--width", "0.25")
    assert code == 0 and "input 2x3x32x32, cpu, 1 thread, 2 interleaved rounds" in out


def test_benchmark_races_equal_networks(capsys, monkeypatch):
    import torch

    monkeypatch.setattr("lwcourse.benchmarks.networks.keep_memory", lambda: None)  # it would last until the tests end

    from lwcourse.benchmarks.networks import report, same_weights
    ours, theirs, label = same_weights("mbv2")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert label == "torchvision mobilenet_v2" and torch.allclose(ours(x), theirs(x), atol=1e-5)
    text, _ = report(["mobilenet_v3_small"], batches=(1,), rounds=2, threads=1)
    assert text.count("torchvision mobilenet_v3_small") == 2 and "channels_last" in text and "geometric mean" in text
    code, _, err = run(capsys, "benchmark", "mobilenext")
    assert code == 2 and "only stored outputs" in err


def test_benchmark_input_compares_ways_to_the_same_batches(capsys):
    from lwcourse.benchmarks.input import OURS, contenders
    with_sizes = {name: [len(batch[0]) for batch in once()] for name, once in contenders(20, 8).items()}
    assert len(with_sizes) == 5 and OURS in with_sizes and set(map(tuple, with_sizes.values())) == {(8, 8, 4)}
    code, out, _ = run(capsys, "benchmark-input", "--images", "20", "--rounds", "1", "--batch-size", "8",
                       "--threads", "1")
    lines = out.splitlines()
    assert code == 0 and lines[0].split()[-6:] == ["images", "/", "s", "ours", "/", "this"]
    assert [line.split("  ")[0] for line in lines[2:7]] == list(with_sizes)
    assert lines[7].startswith("1 thread, batches of 8, medians of 1 interleaved round of 20 images: ")


@pytest.mark.skipif(os.name == "nt", reason="a pipe of another kind")
def test_a_reader_that_has_seen_enough_is_no_error():
    command = subprocess.Popen([sys.executable, "-m", "lwcourse", "recipes"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    command.stdout.close()
    assert command.wait(timeout=120) == 0 and command.stderr.read() == ""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's malloc")
def test_benchmark_keeps_the_memory_that_is_freed():
    code = """
import resource, torch
from lwcourse.benchmarks.networks import keep_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
def given_back():
    block = torch.zeros(2**24)  # 64 MiB
    full = resident()
    del block
    return full - resident()
assert given_back() > 2**25
keep_memory()
assert given_back() < 2**20
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_are_one_line(capsys):
    code, out, err = run(capsys, "show", "mobilenet_v9")
    assert (code, out) == (2, "") and err.startswith("error: there is no model 'mobilenet_v9'; did you mean")


@pytest.mark.parametrize(("command", "words"), [
    ("latency mbv2 --batch 0", "batch must be a whole number of at least 1, got 0"),
    ("latency mbv2 --batch -1", "batch must be a whole number of at least 1, got -1"),
    ("latency mbv2 --rounds 1", "rounds must be a whole number of at least 2, got 1"),
    ("latency mbv2 --threads 100000", "threads must be a whole number from 1 to"),
    ("latency mbv2 --input-size 3 -1 8", "input_size must hold positive integers"),
    ("latency mbv2 --device gpu", "there is no device 'gpu'"),
    ("profile mbv2 --input-size 3 0 0", "input_size must hold positive integers"),
    ("benchmark mbv2 --batches 0", "batches must be a whole number of at least 1, got 0"),
    ("benchmark mbv2 --batches 1 -2", "got -2"),
    ("benchmark mbv2 --seconds -1", "seconds must be a positive number, got -1.0"),
    ("benchmark mbv2 --seconds nan", "seconds must be a positive number, got nan"),
    ("benchmark mbv2 --rounds 1", "rounds must be a whole number of at least 2, got 1"),
    ("benchmark mbv2 --threads 0", "threads must be a whole number from 1 to"),
    ("benchmark mbv2 mobilenet_v9", "there is no model 'mobilenet_v9'"),
    ("benchmark-adder --rounds 0", "rounds must be a whole number of at least 1, got 0"),
    ("benchmark-adder --threads -2", "threads must be a whole number from 1 to"),
    ("benchmark-input --images 0", "images must be a whole number of at least 1, got 0"),
    ("benchmark-input --rounds 0", "rounds must be a whole number of at least 1, got 0"),
    ("benchmark-input --batch-size -1", "batch_size must be a whole number of at least 1, got -1"),
    ("benchmark-input --threads 0", "threads must be a whole number from 1 to"),
])
def test_what_cannot_be_measured_is_refused_before_anything_is_built(command, words, capsys, monkeypatch):
    monkeypatch.setattr("lwcourse.benchmarks.networks.keep_memory", lambda: None)  # it would last until the tests end
    monkeypatch.setattr("lwcourse.benchmarks.input.contenders", lambda *_: pytest.fail("something was built"))
    for name in ("create_model", "profile", "measure_latency", "transfer_weights"):
        monkeypatch.setattr(lw, name, lambda *_, **__: pytest.fail("something was built"))
    code, out, err = run(capsys, *command.split())
    assert (code, out) == (2, "") and err.startswith("error: ") and words in err and err.count("\n") == 1


@pytest.fixture
def coffee(tmp_path):
    path = tmp_path / "coffee.png"
    Image.fromarray(skimage.data.coffee()).save(path)
    return str(path)


def test_predict_names_what_is_on_a_photograph(capsys, coffee, tmp_path):
    code, out, _ = run(capsys, "predict", "efficientnet_lite0", coffee, coffee, "--top", "2")
    assert code == 0 and out.count("\n") == 2 and out.startswith(f"{coffee}: espresso 0.9") and out.count(", ") == 2
    network = lw.create_model("efficientnet_lite0", weights="imagenet", padding="tensorflow")
    path = lw.save(network, tmp_path / "lite0.safetensors")
    assert run(capsys, "predict", str(path), coffee, "--top", "2")[1] == out.splitlines()[0] + "\n"


@pytest.mark.parametrize(("command", "words"), [
    ("predict efficientnet_lite0 COFFEE --top 0", "--top must be a whole number of at least 1, got 0"),
    ("predict efficientnet_lite0 none.jpg", "there is no picture none.jpg"),
    ("predict efficientnet_lite0 FILE", "cannot be read as an image: its content is of no kind that Pillow knows"),
    ("predict efficientnet_lite0 FOLDER", "is a folder; name its pictures"),
    ("predict FILE COFFEE", "is a file, and no network"),
    ("predict FOLDER COFFEE", "is a folder without the best.pt that a run of `train` leaves"),
    ("predict FOLDER/last.pt COFFEE", "it is the checkpoint that a run goes on from; name the run's folder"),
    ("predict zzz COFFEE", "`python -m lwcourse list` has them all"),
    ("train adder_resnet20 --width 0.5", "adder_resnet20 has one width only"),
    ("train mobilenet_v1 --data cifar10 --root FOLDER", "--download"),
    ("predict parnet_s COFFEE", "there are no trained weights for parnet_s"),
    ("predict mobilenet_v9 COFFEE", "there is no model 'mobilenet_v9'"),
    ("predict efficientnet_lite0 COFFEE --weights x", "there are no weights 'x' for efficientnet_lite0"),
    ("predict none.safetensors COFFEE", "there is no file none.safetensors"),
    ("predict none.safetensors COFFEE --weights timm", "has its own weights"),
    ("weights mobilenet_v9", "there is no model 'mobilenet_v9'"),
])
def test_what_cannot_be_predicted_is_one_line(command, words, capsys, coffee):
    folder = Path(coffee).parent
    (folder / "last.pt").touch()
    places = {"COFFEE": coffee, "FILE": __file__, "FOLDER": str(folder)}
    for name, place in places.items():
        command = command.replace(name, place)
    code, out, err = run(capsys, *command.split())
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1


def test_a_picture_that_cannot_be_read_keeps_no_other_from_its_name(capsys, coffee):
    code, out, err = run(capsys, "predict", "efficientnet_lite0", coffee, __file__, coffee, "--top", "1")
    assert code == 2 and out.count("espresso") == 2 and err.count("\n") == 1 and __file__ in err


def test_a_wrong_type_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line.main(["train", "mobilenet_v1", "--epochs", "x"])
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1 and "argument --epochs: invalid int value: 'x'" in err


def test_weights_are_listed(capsys):
    code, out, _ = run(capsys, "weights", "efficientnet_lite0")
    assert code == 0 and "imagenet" in out and "Apache-2.0" in out and "75.1" in out
    assert len(run(capsys, "weights")[1].splitlines()) > 50


def test_an_image_beyond_the_memory_is_one_line(capsys):
    code, _, err = run(capsys, "profile", "mbv2", "--width", "0.25", "--input-size", "3", "1000000", "1000000")
    assert code == 2 and "takes 10.9 TiB" in err and err.count("\n") == 1


@pytest.mark.parametrize(("raised", "code", "words"), [
    (KeyboardInterrupt(), 130, "interrupted"), (RuntimeError("boom"), 2, "error: RuntimeError: boom"),
    (KeyError("k"), 2, "error: KeyError: 'k'"), (MemoryError(), 2, "error: there is not enough memory for it"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "error: there is not enough memory"),
    (OSError(28, "No space left on device"), 2, "error: OSError: [Errno 28] No space left on device"),
    (ModuleNotFoundError("No module named 'timm.models'", name="timm.models"), 2,
     "error: profile needs timm: pip install 'lwcourse[dev]'"),
    (ModuleNotFoundError("No module named 'sklearn'", name="sklearn"), 2,
     "error: profile needs scikit-learn: pip install 'lwcourse[course]'"),
    (ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere"), 2, "error: No module named 'elsewhere'"),
])
def test_whatever_fails_is_one_line_and_an_exit_code(raised, code, words, capsys, monkeypatch):
    def fail(*_, **__):
        raise raised
    monkeypatch.setattr(lw, "profile", fail)
    found, _, err = run(capsys, "profile", "mbv2", "--width", "0.25")
    assert found == code and err.startswith(words) and err.count("\n") == 1


@pytest.mark.parametrize(("command", "package"), [("benchmark ghostnet", "timm"), ("exercises", "nbformat")])
def test_a_missing_package_is_named_with_its_extra(command, package, capsys, monkeypatch):
    monkeypatch.setattr("lwcourse.benchmarks.networks.keep_memory", lambda: None)
    monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith("lwcourse.authoring")]:
        monkeypatch.delitem(sys.modules, module)
    code, _, err = run(capsys, *command.split())
    assert code == 2 and err == f"error: {command} needs {package}: pip install 'lwcourse[dev]'\n"


def test_check_env_says_how_to_install_in_a_checkout_and_from_a_wheel(monkeypatch, tmp_path):
    assert environment.install_command() == "pip install -e '.[course]'"
    monkeypatch.setattr(lw, "__file__", str(tmp_path / "site-packages" / "lwcourse" / "__init__.py"))
    assert environment.install_command() == "pip install 'lwcourse[course]'"


def test_check_env_names_what_is_missing(capsys, monkeypatch):
    assert run(capsys, "check-env")[0] == 0
    real = environment.version

    def version(name):
        if name == "torchinfo":
            raise PackageNotFoundError(name)
        return "1.0" if name == "torch" else real(name)
    monkeypatch.setattr(environment, "version", version)
    code, out, _ = run(capsys, "check-env")
    assert code == 1 and "torch 1.0, but wanted >=2.4 (always needed)" in out
    assert "the chapters need torch, torchinfo; install with" in out


@pytest.mark.parametrize("command", ["exercises", "notebooks", "address", "figures"])
def test_repository_commands_need_a_checkout(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, command)
    assert code == 2 and "checkout of the course" in err


def test_the_module_runs_from_the_shell():
    done = subprocess.run([sys.executable, "-m", "lwcourse", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "mobilenet_v2" in done.stdout


def test_times_are_not_stored_on_a_busy_machine(monkeypatch, capsys):
    monkeypatch.setattr("lwcourse.authoring.notebooks.busy_share", lambda: 0.9)
    monkeypatch.setattr("lwcourse.authoring.run_notebooks", lambda paths, **options: pytest.fail("it ran"))
    assert command_line.main(["notebooks", "00"]) == 2
    assert "other work keeps 90% of the processors busy" in capsys.readouterr().err
    monkeypatch.setattr("lwcourse.authoring.run_notebooks", lambda paths, **options: [
        NotebookRun(paths[0], 1.0, False, ())])
    for flag in ("--busy", "--check"):
        assert command_line.main(["notebooks", "00", flag]) == 0
