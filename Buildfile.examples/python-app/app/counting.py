"""What is counted."""

import re
from collections import Counter

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def count_words(text: str, most: int = 10) -> dict[str, object]:
    """How many words there are, how many of them differ, and the most frequent ones; ties in alphabetical order."""
    words = Counter(word.lower() for word in _WORD.findall(text))
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return {"words": words.total(), "different": len(words), "most": dict(ranked[:most])}
