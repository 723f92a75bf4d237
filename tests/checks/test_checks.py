import logging
import os
import random
import subprocess
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

import lwcourse as lw
from lwcourse import checks
from lwcourse.checks import CheckFailed, exercise, fail
from lwcourse.checks.ch00.cost import MISTAKES
from lwcourse.checks.helpers import (
    a_function,
    a_module,
    a_module_class,
    a_number,
    compare_blocks,
    compare_functions,
    compare_modules,
    compare_numbers,
)
from lwcourse.layers import ChannelShuffle, ConvBNAct
from lwcourse.models.mobilenet_v2 import InvertedResidual


def right_macs(in_channels, out_channels, kernel, height, width, groups=1):
    return in_channels // groups * out_channels * kernel**2 * height * width


@pytest.fixture
def register(monkeypatch):
    """`register(function, expects=...)` files a function as exercise 00.9 for the length of a test."""
    checks.exercises()  # chapters that are loaded later would file theirs in the copy
    monkeypatch.setattr(checks, "_exercises", dict(checks._exercises))

    def file(function, **options):
        exercise("00.9", **{"title": "A test", "minutes": 1, "difficulty": "easy", **options})(function)
    return file


# The verdict

def test_what_the_notebook_set_for_torch_neither_matters_nor_is_lost(register):
    found = []
    register(lambda answer: found.append((torch.ones(1).dtype, torch.get_num_threads(), torch.is_grad_enabled())))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            lw.check("00.9", 1)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == [(torch.float32, 1, True)]


def test_right_answer_prints_a_verdict_and_returns_none(capsys):
    assert lw.check("00.1", right_macs) is None
    assert capsys.readouterr().out.startswith("00.1 correct: MACs of a convolution.")


def test_score_is_printed_with_the_verdict(register, capsys):
    register(lambda answer: "0.8 M of 1.0 M MACs.")
    lw.check("00.9", 1)
    assert capsys.readouterr().out == "00.9 correct: A test. 0.8 M of 1.0 M MACs.\n"


def test_refusal_has_id_reason_and_hint(register):
    register(lambda answer: fail("it is wrong", "try again"))
    with pytest.raises(AssertionError) as refused:
        lw.check("00.9", 1)
    assert str(refused.value) == "00.9 not yet: it is wrong\nHint: try again"
    assert refused.value._render_traceback_() == [f"CheckFailed: {refused.value}"]


def test_notebook_shows_only_the_message():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shown = []
    shell._showtraceback = lambda etype, evalue, lines: shown.extend(lines)
    shell.run_cell("import lwcourse as lw\nlw.check('00.1', lambda *a, **k: 1)")
    text = "\n".join(shown)
    assert text.startswith("CheckFailed: 00.1 not yet: ") and "Traceback" not in text and "lwcourse/checks" not in text


@pytest.mark.parametrize("stub", [..., None, {"a": 1, "b": ...}, (1, ...), [...]])
def test_placeholder_is_not_answered_yet(register, stub):
    register(lambda answer: None)
    with pytest.raises(CheckFailed, match="00.9 not yet: not answered yet"):
        lw.check("00.9", stub)


def test_stub_of_nbgrader_is_not_answered_yet():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        raise NotImplementedError()

    with pytest.raises(CheckFailed, match="not answered yet"):
        lw.check("00.1", conv_macs)


def test_missing_forward_is_an_error_not_a_stub(register):
    register(lambda answer: answer()(torch.zeros(1)))
    with pytest.raises(CheckFailed, match='missing the required "forward"'):
        lw.check("00.9", nn.Module)


def test_error_in_the_learners_code_is_told_with_its_line():
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        channels = in_channels // (groups - groups)
        return channels * out_channels

    with pytest.raises(CheckFailed) as refused:
        lw.check("00.1", conv_macs)
    assert "your code raised ZeroDivisionError" in str(refused.value)
    assert "in conv_macs: channels = in_channels // (groups - groups)" in str(refused.value)
    assert isinstance(refused.value.__cause__, ZeroDivisionError)


def test_line_is_the_learners_when_torch_raises(register):
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x[:, :, 1:]], dim=1)

    register(lambda answer: answer()(torch.zeros(1, 2, 3, 3)))
    with pytest.raises(CheckFailed, match=r"in forward: return torch.cat\(\[x, x\[:, :, 1:\]\], dim=1\)"):
        lw.check("00.9", Block)


def test_answer_that_cannot_be_called_so_has_no_line():
    with pytest.raises(CheckFailed, match="could not use your answer: TypeError.*unexpected keyword argument 'groups'"):
        lw.check("00.1", lambda in_channels, out_channels, kernel, height, width: 1)


def test_interrupt_passes(register):
    def interrupted(answer):
        raise KeyboardInterrupt

    register(interrupted)
    with pytest.raises(KeyboardInterrupt):
        lw.check("00.9", 1)


class Odd(BaseException):
    """What nobody catches."""


@pytest.mark.parametrize(("raise_it", "words"), [
    (lambda: sys.exit(3), r"your code ends the program instead of giving a result: SystemExit: 3\n  at line .*exit"),
    (lambda: sys.exit(0), "your code ends the program .* SystemExit: 0(?s:.*)Hint: take out exit"),
    (exit, "your code ends the program"), (lambda: next(iter(())), "your code raised StopIteration"),
    (lambda: (_ for _ in ()).throw(Odd("hm")), "your code raised Odd: hm")])
def test_what_ends_a_program_is_refused(raise_it, words):
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return raise_it()

    with pytest.raises(CheckFailed, match=f"00.1 not yet: {words}"):
        lw.check("00.1", conv_macs)


def test_an_answer_that_fails_when_it_is_looked_at(register):
    class Answers(dict):
        def values(self):
            raise SystemExit

    register(lambda answer: None)
    with pytest.raises(CheckFailed, match="your code ends the program"):
        lw.check("00.9", Answers(a=1))


@pytest.mark.parametrize("exercise_id", ["02.1", "04.1", "01.5", "06.1"])
@pytest.mark.parametrize("answer", [nn.Linear, type("Mine", (nn.Linear,), {})])
def test_a_class_that_is_built_as_pytorchs_is_told_so(exercise_id, answer):
    """A stride that goes to `device` must not speak of NVIDIA's drivers."""
    with pytest.raises(CheckFailed) as refused:
        lw.check(exercise_id, answer)
    assert f"{answer.__name__} is built by PyTorch's Linear(in_features, out_features, bias" in str(refused.value)
    assert "class of your own" in str(refused.value) and "NVIDIA" not in str(refused.value)


def test_checking_leaves_lw_compare_a_function():
    """The package lwcourse.compare must not take the name of the function when a check imports it first."""
    program = "import lwcourse as lw\nlw.checks.exercises()\nassert callable(lw.compare), lw.compare"
    subprocess.run([sys.executable, "-c", program], check=True)


# Types

@pytest.mark.parametrize("expects, answer, words", [
    (dict, [1], "expects a value of type dict, got a value of type list"),
    ((int, float), "1", "expects a value of type int or float, got a value of type str"),
    (a_number, True, "expects a number, got a value of type bool"),
    (a_function, nn.ReLU, "expects a function .*, got the class ReLU"),
    (a_module, nn.ReLU, "expects an nn.Module that is built already, got the class ReLU"),
    (a_module_class, nn.ReLU(), "expects a class that inherits from nn.Module .*, got a value of type ReLU"),
    (a_module_class, int, "got the class int"),
])
def test_wrong_type_says_what_was_expected(register, expects, answer, words):
    register(lambda answer: None, expects=expects)
    with pytest.raises(CheckFailed, match=words):
        lw.check("00.9", answer)


@pytest.mark.parametrize("expects, answer", [
    (dict, {}), ((int, float), 1.0), (a_number, torch.zeros(1).numpy()[0]), (a_number, 3), (a_function, right_macs),
    (a_module, nn.ReLU()), (a_module_class, nn.ReLU)])
def test_right_type_passes(register, expects, answer):
    register(lambda answer: None, expects=expects)
    lw.check("00.9", answer)


# The registry

@pytest.mark.parametrize("unknown, words", [
    ("0.1", "there is no exercise '0.1'; did you mean '00.1'\\?"), ("00.77", r"did you mean '\d\d\.\d"),
    ("zz", "there are 00.1"), ("01", r"did you mean '01.1' or '01.2' or '01.3' or '01.5' or '01.6'"),
    ("2", "did you mean '02.1' or '02.2'"), ("02.", "did you mean '02.1' or"), ("02.99", "did you mean '02.1' or"),
    (" 2.1 ", r"did you mean '02.1'\?"), ("99", "there are 00.1"), ("", "there are 00.1")])
def test_unknown_id_names_others(unknown, words):
    with pytest.raises(ValueError, match=words):
        lw.check(unknown, 1)


def test_id_that_is_a_number_is_refused():
    with pytest.raises(TypeError, match="a string such as '02.1', got 2.1"):
        lw.check(2.1, 1)


def test_an_exercise_that_has_moved_answers_to_its_old_id(capsys):
    """Answers outside of this repository hand in 01.4, which is 17.1 now."""
    for old, new in checks.MOVED.items():
        assert checks.find(old) is checks.find(new) and old not in {one.id for one in checks.exercises()}
    with pytest.raises(CheckFailed, match="01.4 not yet: the keys must be 'hungriest'"):
        lw.check("01.4", {})
    with pytest.raises(ValueError, match="01.4 is the old id of 17.1"):
        exercise("01.4", title="A test", minutes=1, difficulty="easy")


@pytest.mark.parametrize("options, words", [
    ({"exercise_id": "2.1"}, "looks like '02.1'"), ({"difficulty": "trivial"}, "easy, medium, hard"),
    ({"minutes": 0}, "at least 1"), ({"exercise_id": "00.1"}, "is lwcourse.checks.ch00.cost.conv_macs already")])
def test_decorator_refuses(options, words):
    good = {"exercise_id": "00.9", "title": "A test", "minutes": 1, "difficulty": "easy"}
    with pytest.raises(ValueError, match=words):
        exercise(**good | options)(right_macs)


def test_exercises_are_in_order_and_of_the_chapter_asked_for(register):
    register(lambda answer: None)
    checks._exercises["00.10"] = checks.Exercise("00.10", "A test", 1, "easy", object, print)
    ids = [one.id for one in checks.exercises("00")]
    assert ids[0] == "00.1" and ids[-2:] == ["00.9", "00.10"]
    assert {one.chapter for one in checks.exercises()} >= {"00"}


# What a check leaves alone

def test_random_state_is_restored_and_draws_repeat(register):
    drawn = []
    register(lambda answer: drawn.append(torch.rand(3)))
    torch.manual_seed(7)
    random.seed(7)
    before, python_before = torch.get_rng_state(), random.getstate()
    lw.check("00.9", 1)
    lw.check("00.9", 1)
    lw.check("00.1", right_macs)
    assert torch.equal(before, torch.get_rng_state()) and python_before == random.getstate()
    assert torch.equal(*drawn)


def test_warnings_do_not_reach_stderr(register, recwarn):
    register(lambda answer: warnings.warn("noise", stacklevel=1))
    lw.check("00.9", 1)
    assert not recwarn.list


NOISE = """
import logging, os, subprocess, sys, warnings
from tqdm import tqdm
import lwcourse as lw

held = sys.stderr

def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
    print("printed", file=sys.stderr)
    print("held", file=held)
    print("first", file=sys.__stderr__)
    logging.getLogger("a learner's").error("logged")
    for _ in tqdm(range(2), desc="a bar"):
        pass
    warnings.simplefilter("always")
    warnings.warn("warned")
    os.write(2, b"as a library in C")
    subprocess.run([sys.executable, "-S", "-c", "import sys; sys.stderr.write('another program')"], check=True)
    return in_channels // groups * out_channels * kernel**2 * height * width

lw.check("00.1", conv_macs)
print("after", file=sys.stderr, flush=True)
os.write(2, b"wards")
"""


def test_nothing_reaches_stderr_while_a_check_runs():
    """nbgrader gives no points to a cell that writes there; the words go to stdout."""
    done = subprocess.run([sys.executable, "-c", NOISE], check=True, capture_output=True, text=True)
    assert done.stderr.split() == ["after", "wards"]
    words = ("printed", "held", "first", "logged", "a bar", "warned", "as a library in C", "another program",
             "00.1 correct")
    assert not [word for word in words if word not in done.stdout]


def test_who_holds_stderr_already_is_quiet_too(register, capsys):
    held, handler = sys.stderr, logging.StreamHandler()
    logger = logging.getLogger("with a handler")
    logger.addHandler(handler)
    logger.propagate = False

    def noise(answer):
        print("held", file=held)
        logger.error("handled")
        fail("it is wrong")
    register(noise)
    with pytest.raises(CheckFailed, match="it is wrong"):
        lw.check("00.9", 1)
    assert capsys.readouterr() == ("held\nhandled\n", "")
    print("after", file=held)
    assert capsys.readouterr() == ("", "after\n") and sys.stderr is held


@pytest.mark.parametrize("stream", [None, object()])
def test_a_process_without_stderr_can_check(stream, register, monkeypatch, capsys):
    def closed(*descriptors):
        raise OSError("Bad file descriptor")
    register(lambda answer: None)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(os, "dup", closed)
    lw.check("00.9", 1)
    assert capsys.readouterr().out == "00.9 correct: A test.\n"


# compare_blocks

CASES = [((8, 8, 1, 2), (2, 8, 9, 7)), ((8, 12, 2, 2), (1, 8, 9, 7)), ((8, 8, 1, 1), (1, 8, 6, 5))]


def test_equal_blocks_pass_and_stay_as_they_were():
    compare_blocks(InvertedResidual, InvertedResidual, CASES)
    mine = InvertedResidual(8, 8, 1, 2).train()
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    compare_modules(mine, InvertedResidual(8, 8, 1, 2), (2, 8, 9, 7))
    assert mine.training
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())


class NoShortcut(InvertedResidual):
    def forward(self, x):
        return self.project(self.depthwise(self.expand(x)))


class ActivationLast(InvertedResidual):
    def __init__(self, in_channels, out_channels, stride, expand):
        super().__init__(in_channels, out_channels, stride, expand)
        self.project = ConvBNAct(expand * in_channels, out_channels, 1, act=nn.ReLU6)


class StrideLeftOut(InvertedResidual):
    def __init__(self, in_channels, out_channels, stride, expand):
        super().__init__(in_channels, out_channels, 1, expand)


class SpareLayer(InvertedResidual):
    def __init__(self, in_channels, out_channels, stride, expand):
        super().__init__(in_channels, out_channels, stride, expand)
        self.spare = nn.Conv2d(8, 8, 1)


class Overwrites(InvertedResidual):
    def forward(self, x):
        y = super().forward(x)
        x.zero_()
        return y


class NoReturn(InvertedResidual):
    def forward(self, x):
        super().forward(x)


@pytest.mark.parametrize("block, words", [
    (NoShortcut, r"NoShortcut\(8, 8, 1, 2\) on an input of shape \(2, 8, 9, 7\): (?s:.*)shortcut"),
    (ActivationLast, "activation|ReLU6"),
    (StrideLeftOut, r"StrideLeftOut\(8, 12, 2, 2\) on an input of shape \(1, 8, 9, 7\): (?s:.*)stride"),
    (SpareLayer, r"the output is right, but there are \d+ parameters, not \d+: some layer is never used"),
    (Overwrites, "overwrites its input"),
    (NoReturn, "the output is NoneType, not a tensor; is the return missing"),
    (lambda *arguments: 3, r"\(8, 8, 1, 2\) gives int, not an nn.Module"),
])
def test_different_blocks_are_refused_with_the_cause(block, words):
    with pytest.raises(CheckFailed, match=words):
        compare_blocks(block, InvertedResidual, CASES)


def test_wrong_number_of_channels_is_told():
    with pytest.raises(CheckFailed, match="(?s)9.*8"):
        compare_modules(ConvBNAct(3, 9, 3), ConvBNAct(3, 8, 3), (1, 3, 6, 6))


@pytest.mark.parametrize("wrong, words", [
    (nn.Identity(), "values are wrong"), (nn.ChannelShuffle(3), "values are wrong"),
    (nn.Conv2d(6, 6, 1), "there are 42 parameters, but this operation has none")])
def test_modules_without_weights_are_compared_too(wrong, words):
    compare_modules(nn.ChannelShuffle(2), ChannelShuffle(2), (1, 6, 3, 3))
    with pytest.raises(CheckFailed, match=words):
        compare_modules(wrong, ChannelShuffle(2), (1, 6, 3, 3))


# compare_functions and compare_numbers

def shuffled(x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


SHUFFLES = [(torch.arange(24.0).reshape(1, 6, 2, 2), 2), (torch.arange(54.0).reshape(1, 6, 3, 3), 3)]


def test_compare_functions_passes_equal_ones():
    compare_functions(shuffled, lambda x, groups: nn.functional.channel_shuffle(x, groups), SHUFFLES)


def test_compare_functions_names_the_mistake_or_the_first_wrong_value():
    def identity(x, groups):
        return x

    with pytest.raises(CheckFailed, match="nothing is shuffled"):
        compare_functions(identity, shuffled, SHUFFLES, {"nothing is shuffled": identity})
    with pytest.raises(CheckFailed, match=r"16 of 24 values are wrong, the first at index \(0, 1, 0, 0\): "
                                          r"4 instead of 12"):
        compare_functions(identity, shuffled, SHUFFLES)
    with pytest.raises(CheckFailed, match="has shape .*, not"):
        compare_functions(lambda x, groups: x[:, 1:], shuffled, SHUFFLES)
    with pytest.raises(CheckFailed, match="is the return missing"):
        compare_functions(lambda x, groups: None, shuffled, SHUFFLES)


def test_compare_functions_keeps_its_cases_from_a_function_that_overwrites():
    with pytest.raises(CheckFailed, match="overwrites its input"):
        compare_functions(lambda x, groups: x.zero_(), shuffled, SHUFFLES)
    assert SHUFFLES[0][0].sum() == sum(range(24))


@pytest.mark.parametrize("mine, words", [
    ({"a": 10, "b": 40}, "you doubled it"),
    ({"a": 5, "b": 40}, "b: 40 is too large, about 2 times"),
    ({"a": 2.5, "b": 20}, "a: 2.5 is too small, about 2 times"),
    ({"a": 5, "b": 20.01}, "b: 20.01 is too large, by less than"),
    ({"a": 5, "b": None}, "b: got None, not a number; is the return missing"),
    ({"a": 5, "b": -20}, "b: -20 is too small"),
])
def test_compare_numbers_explains(mine, words):
    with pytest.raises(CheckFailed, match=words):
        compare_numbers(mine, {"a": 5, "b": 20}, {"you doubled it": {"a": 10, "b": 40}})


def test_compare_numbers_takes_what_is_within_the_tolerance():
    compare_numbers({"a": 5.04}, {"a": 5}, tolerance=0.01)
    with pytest.raises(CheckFailed):
        compare_numbers({"a": 5.06}, {"a": 5}, tolerance=0.01)


# 00.1

@pytest.mark.parametrize("reason", MISTAKES)
def test_each_mistake_of_00_1_is_told_apart(reason):
    def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
        return MISTAKES[reason](in_channels, out_channels, kernel, height, width, groups)

    with pytest.raises(CheckFailed) as refused:
        lw.check("00.1", conv_macs)
    assert refused.value.reason == reason


def test_00_1_takes_a_float_that_is_right():
    lw.check("00.1", lambda c, d, kernel, height, width, groups=1: c * d * kernel**2 * height * width / groups)
