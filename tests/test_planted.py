"""The corpus of planted faults is sound: its faults are real, and its score counts them rightly."""
import re

import pytest
from planted import Fault, Pair, ghostnet, inceptions, mobilenets, resnets, shufflenets
from planted.proof import untruths
from planted.score import choose, families, names_cause, score, table
from torch import nn

FAMILIES = (ghostnet, inceptions, mobilenets, resnets, shufflenets)
PAIRS = {pair.name: pair for module in FAMILIES for pair in (*module.PAIRS, *getattr(module, "EQUAL", ()))}


def test_every_family_is_found():
    assert PAIRS.keys() <= families().keys()


@pytest.mark.parametrize("name", sorted(families()))
def test_faults_have_their_own_names_and_words_that_are_patterns(name):
    faults = families()[name].faults
    assert len({fault.name for fault in faults}) == len(faults)
    for fault in faults:
        assert fault.name and fault.what
        for words in (fault.place, fault.cause):
            assert words and not re.search(words, ""), f"{fault.name}: {words!r} is found in an empty sentence"


VAGUE = (  # sentences of lw.compare that name no mistake
    "something without weights differs after `x.1.bn`, but none of the usual causes fits.",
    "the reference's is ReLU of (the output of `x.1.bn` plus the input of `x.0`); yours is something else.",
    "(2, 24, 2, 2) here, but the reference has (2, 24, 3, 2).",
    "(2, 24, 2, 2) here, but the reference has (2, 24, 3, 2); the reference's is bilinear upsampling of ReLU of `x`.",
    "(2, 24) here, but the reference has (2, 24, 1, 1); the reference's is global average pooling of ReLU6 of `x`.",
    "your network cannot run x of shape (2, 3, 9, 6): `x` (Conv2d) says: mat1 and mat2 shapes cannot be multiplied.",
)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_no_cause_is_found_in_a_sentence_that_names_none(name):
    for fault in PAIRS[name].faults:
        for words in VAGUE:
            sentence = f"Before layer 12 of 24, your `x.0` (reference: `features.norm1.pool.conv`): {words}"
            assert not names_cause(sentence, fault), f"{fault.name}: {fault.cause!r} is found in {words!r}"


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_networks_without_a_fault_are_equal(name):
    pair = PAIRS[name]
    assert untruths(Pair(name, pair.mine, pair.reference, pair.x)) == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_every_fault_changes_the_output(name):
    assert untruths(PAIRS[name]) == []


def small(fault):
    act = nn.ReLU6() if fault in ("relu6", "unheard of") else nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), act, nn.Conv2d(8, 4, 40 if fault == "broken" else 1))


PAIR = Pair("small", small, lambda: small(""), (8, 3, 12, 10), (
    Fault("relu6", "ReLU6 for ReLU", "`1`", "ReLU6.*the reference.*ReLU"),
    Fault("broken", "a kernel larger than the map", "`3`", "cannot run"),
    Fault("unheard of", "ReLU6 for ReLU, but other words are wanted", "`1`", "a cause that nobody names"),
    Fault("harmless", "nothing at all", "`1`", "nothing"),
))


def test_score_tells_equal_found_place_and_cause():
    whole, relu6, broken, unheard, harmless = score([PAIR])
    assert whole.equal and whole.right
    assert relu6.right and relu6.place and relu6.cause and "ReLU6" in relu6.sentence
    assert broken.right and "cannot run" in broken.sentence
    assert not unheard.equal and unheard.place and not unheard.cause and not unheard.right
    assert harmless.equal and not harmless.right
    words = table([whole, relu6, broken, unheard, harmless])
    assert "1 of 1 pairs equal; of 4 faults 3 found, 3 places right, 2 named rightly" in words
    assert "small:unheard of (cause)" in words and "small:harmless (missed)" in words


def test_score_draws_the_same_numbers_each_time():
    first, second = (score([PAIR])[1] for _ in range(2))
    assert first.sentence == second.sentence


def test_proof_finds_a_harmless_fault_and_unequal_networks():
    assert untruths(PAIR) == ["small:harmless: the fault changes nothing"]
    unequal = Pair("unequal", lambda fault: small("relu6"), lambda: small(""), PAIR.x)
    assert untruths(unequal) == ["unequal: the networks differ without a fault"]


def test_choose_takes_one_fault_and_refuses_what_there_is_not():
    known = {"small": PAIR}
    assert [fault.name for fault in choose(known, ["small:relu6"])[0].faults] == ["relu6"]
    chosen, = choose(known, ["small:broken", "small:relu6", "small:broken"])
    assert [fault.name for fault in chosen.faults] == ["broken", "relu6"]
    for name in ("large", "small:nothing"):
        with pytest.raises(SystemExit, match=f"there is no '{name}'"):
            choose(known, [name])
