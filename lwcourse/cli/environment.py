"""The command that tells whether the course can run here: check-env."""
import argparse
import importlib
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

import lwcourse as lw
from lwcourse.cli.options import Commands
from lwcourse.tables import counted

EXTRAS = ("course", "fast", "train", "dev")


def check_env(args: argparse.Namespace) -> int:
    """Versions of what the package and its extras need, and the device; fails when the course cannot run."""
    print(f"Python {sys.version.split()[0]}, {counted(torch.get_num_threads(), 'thread')}, device {lw.pick_device()}")
    lacking = []
    for requirement in map(Requirement, requires("lwcourse")):
        marker = str(requirement.marker or "")
        extra = next((name for name in EXTRAS if f'extra == "{name}"' in marker), "always needed")
        if requirement.name == "lwcourse":  # dev asks for course
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        fits = found != "missing" and requirement.specifier.contains(found, prereleases=True)
        print(f"  {requirement.name} {found}{'' if fits else f', but wanted {requirement.specifier}'} ({extra})")
        if not fits and extra in ("always needed", "course"):
            lacking.append(requirement.name)
    if lacking:
        print(f"the chapters need {', '.join(lacking)}; install with: {install_command()}")
        return 1
    importlib.import_module("torchvision")  # one that does not fit torch fails here
    print("the chapters can run")
    return 0


def install_command() -> str:
    """How to install what the chapters need: into a checkout, where the package lies in one, or from a wheel."""
    checkout = (Path(lw.__file__).parents[1] / "pyproject.toml").is_file()
    return "pip install -e '.[course]'" if checkout else "pip install 'lwcourse[course]'"


def add_commands(command: Commands) -> None:
    command("check-env", check_env, "versions of everything the course uses, and the device")
