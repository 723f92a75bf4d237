"""The words by which a sentence of `lw.compare` is recognised: strict in what it says, lenient in how.

Every function gives a regular expression. `mine`, `theirs` and `what` are regular expressions themselves.
"""
import re


def at(*names: str) -> str:
    """One of these layers of the learner's is named."""
    return "|".join(f"`{re.escape(name)}`" for name in names)


def instead(mine: str, theirs: str) -> str:
    """It says what is there, and what the reference has there."""
    return rf"{mine}.*\bthe reference\b.*{theirs}|\bthe reference\b.*{theirs}.*\b(yours|your network)\b.*{mine}"


def missing(what: str) -> str:
    """It says what is missing in the learner's network."""
    return rf"(?=.*{what}).*(missing|lacks|no activation on|no activation after|no pooling|not applied|never used)"


def extra(what: str) -> str:
    """It says what the learner's network has and the reference has not."""
    return (rf"{what}.*(the reference (has|does|applies|adds) (no|none|not|nothing)\b|which the reference|too many"
            rf"|is not in the reference|the reference's is the)")


def scaled(by: str = r"[\d.]+") -> str:
    """It says that a constant factor is missing, too many or wrong, and which."""
    return rf"\b(times|by|factor|scale) (of |about |is )?({by})|({by}) times"


def both(*parts: str) -> str:
    """All of these occur, in any order."""
    return "".join(f"(?=.*{part})" for part in parts)


GLOBAL_MEAN = r"(global average pooling|mean over)"
