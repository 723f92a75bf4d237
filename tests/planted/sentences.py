"""Regular expressions of what a sentence must say: strict in content, lenient in wording."""
import re


def at(*layers: str) -> str:
    """The sentence names one of the learner's `layers` as the place."""
    return "[Yy]our `(" + "|".join(map(re.escape, layers)) + ")`"


def gap(before: str, after: str) -> str:
    """The place is between two of the learner's layers, and neither is blamed itself."""
    before, after = re.escape(before), re.escape(after)
    return f"[Bb]efore [^`]*your `{after}`|(?:[Aa]fter|[Bb]etween) [^`]*your `{before}`"


VAGUE = "(?!.*(?:none of the usual causes|something else))"


def all_of(*patterns: str) -> str:
    """Every pattern occurs, in any order, and the sentence is not one of those that name no cause."""
    return f"(?is:^{VAGUE}" + "".join(f"(?=.*(?:{pattern}))" for pattern in patterns) + ")"


def word(pattern: str) -> str:
    return rf"(?<![\w-])(?:{pattern})(?!\w)"


def instead(mine: str, reference: str) -> str:
    """`mine` is there, and the reference has `reference`; or the other way round."""
    mine, reference = word(mine), word(reference)
    return all_of(rf"{mine}.*\breference.*{reference}"
                  rf"|\breference.*{reference}.*\b(?:you|your|yours|here)\b.*{mine}")


def missing(thing: str) -> str:
    """The reference has `thing`, and the learner's network has nothing in its place."""
    thing = word(thing)
    return all_of(rf"\b(?:no|without|missing)\b.*\breference.*{thing}|{thing}.*\b(?:is|are) (?:missing|not)\b"
                  rf"|\breference.*{thing}.*\b(?:missing|yours (?:does not|has none))"
                  rf"|\b(?:no|without) (?:the )?{thing}")


def extra(thing: str) -> str:
    """The learner's network has `thing`, and the reference has nothing in its place."""
    thing = word(thing)
    return all_of(rf"{thing}.*\breference (?:has no|has nothing|has none|does not)"
                  rf"|{thing}.*\b(?:too many|too much|twice|not in the reference)")


NUMBER = r"-?\(?(?:\d|sqrt)"
SCALE = all_of(r"\bscal(?:e|es|ed|ing)\b|multipl|divi[ds]|\bfactor\b",
               rf"\b(?:times|by|factor|factor of|scaled?|scale (?:of|is)) {NUMBER}|one factor per")
SOFTMAX_AXIS = all_of("softmax", r"\b(?:over|axis|axes|dim|along)\b", "reference")
NO_SHORTCUT = missing("shortcut|addition|adds") + "|" + all_of(r"\bbut (?:in )?the reference.*\bplus\b")
PIXEL_ORDER = (r"(?is:flattened in another order|column by column|columns? first|row by row|rows and columns|transpos"
               r"|(?:tokens?|positions?|pixels?|patches|places) .*\border\b"
               r"|\border\b.*(?:tokens?|positions?|pixels?|patches)"
               r"|\b(?:H|height|rows?) and (?:W|width|columns?)\b|\baxes\b.*(?:exchang|swap|order)|channels? last)")
HEADS_ORDER = (r"(?is:\bheads?\b.*(?:order|another|split|transpos|exchang|swap|axis|axes|last|first|before|mixed|wrong)"
               r"|(?:order|split|transpos|exchang|swap|axis|axes).*\bheads?\b)")


def exchanged(one: str, other: str) -> str:
    """Two tensors stand in each other's place."""
    return all_of(rf"\b(?:{one})\b", rf"\b(?:{other})\b", r"exchang|swap|\border\b|in (?:the )?place of|stands? where")


QUERIES, KEYS, VALUES = "q|query|queries", "k|keys?", "v|values?"
