"""Outputs of official networks that no package on PyPI holds; README.md says what a file has."""
import json
from importlib.resources import files


def load(name: str) -> dict:
    """The stored record `name`.json. Raises FileNotFoundError when there is none."""
    return json.loads(files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
