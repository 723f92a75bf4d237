"""Is every clause of a chapter's checks needed? `python tests/checks/mutate.py 02 [--heavy] [--jobs N]`.

Takes out one clause after the other (a refusal, a comparison, a mistake with words of its own) and judges the answers
of tests/checks again. A clause without which all of them are judged as before is printed: it does nothing, or an
answer that only it refuses is missing. Exits with 1 when there is one.
"""
import argparse
import ast
import contextlib
import io
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

import lwcourse as lw
from lwcourse import checks

sys.path.insert(0, str(Path(__file__).parent))
from test_exercises import ANSWERS

FOLDER = Path(checks.__file__).parent
CLAUSES = ("fail", "refuse_", "_refuse", "compare_", "_compare", "explain_", "_explain")
WORDS = 3  # a key of a dict is a sentence from so many words on


def is_clause(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    name = getattr(node.value.func, "id", getattr(node.value.func, "attr", ""))
    return name.startswith(CLAUSES)


def is_sentence(key: ast.AST | None) -> bool:
    return isinstance(key, ast.Constant) and isinstance(key.value, str) and len(key.value.split()) >= WORDS


class Mutant(ast.NodeTransformer):
    """Takes out clause `number` of a file; `line` and `text` tell which it was, `count` how many there are."""

    def __init__(self, number: int):
        self.number, self.count, self.line, self.text = number, 0, 0, ""

    def _hit(self, node: ast.AST) -> bool:
        self.count += 1
        if self.count - 1 == self.number:
            self.line, self.text = node.lineno, ast.unparse(node)
            return True
        return False

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if is_clause(node) and self._hit(node):
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        kept = [(key, value) for key, value in zip(node.keys, node.values, strict=True)
                if not (is_sentence(key) and self._hit(key))]
        node.keys, node.values = [key for key, _ in kept], [value for _, value in kept]
        return self.generic_visit(node)


def mutated(source: str, number: int) -> tuple[ast.Module, Mutant]:
    mutant = Mutant(number)
    tree = mutant.visit(ast.parse(source))
    return ast.fix_missing_locations(tree), mutant


def cases(chapter: str, heavy: bool, clause: str) -> Iterator[tuple[str, str, object, str | list[str] | None]]:
    """(exercise, name, build, words or None where it is right), first those whose words stand in the clause."""
    found = []
    for kind, (named, slow) in ANSWERS.items():
        for exercise, one in named.items():
            for name, case in one.items():
                if exercise.startswith(chapter) and (heavy or (exercise, name) not in slow):
                    build, words = case if kind == "wrong" else (case, None)
                    found.append((exercise, name, build, words))

    def distance(case):
        words = [case[3]] if isinstance(case[3], str) else case[3] or []
        return -sum(one.lower() in clause.lower() for one in words)
    return sorted(found, key=distance)


def as_expected(exercise: str, build: object, words: str | list[str] | None) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            lw.check(exercise, build())
    except checks.CheckFailed as refused:
        return words is not None and all(one.lower() in str(refused).lower()
                                         for one in ([words] if isinstance(words, str) else words))
    except Exception:
        return False
    return words is None


def survives(job: tuple[Path, int, bool]) -> str | None:
    """The clause, where all answers are judged as before without it."""
    path, number, heavy = job
    torch.set_num_threads(1)
    source = path.read_text(encoding="utf-8")
    tree, mutant = mutated(source, number)
    module = sys.modules[".".join(path.relative_to(FOLDER.parents[1]).with_suffix("").parts).removesuffix(".__init__")]
    exec(compile(tree, str(path), "exec"), module.__dict__)
    chapter = path.relative_to(FOLDER).parts[0].removesuffix(".py").removeprefix("ch")
    killed = any(not as_expected(exercise, build, words)
                 for exercise, _, build, words in cases(chapter, heavy, mutant.text))
    exec(compile(source, str(path), "exec"), module.__dict__)  # this process judges without other clauses next
    return None if killed else (
        f"{path.name}:{mutant.line}: {' '.join(mutant.text.split())[:160]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("chapters", nargs="+", metavar="NN")
    parser.add_argument("--heavy", action="store_true", help="judge the answers that are trained, too")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    options = parser.parse_args()
    checks.exercises()
    left = 0
    for chapter in options.chapters:
        paths = [*FOLDER.glob(f"ch{chapter}.py"), *sorted(FOLDER.glob(f"ch{chapter}/*.py"))]
        jobs = [(path, number, options.heavy) for path in paths
                for number in range(mutated(path.read_text(encoding="utf-8"), -1)[1].count)]
        with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("fork")) as pool:
            survivors = [found for found in pool.map(survives, jobs) if found]
        needed = len(jobs) - len(survivors)
        print(*survivors, f"chapter {chapter}: {needed} of {len(jobs)} clauses are needed", sep="\n")
        left += len(survivors)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
