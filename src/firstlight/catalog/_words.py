"""Texts as words, without case and accents."""

import re
import unicodedata


def words(text: str) -> set[str]:
    """The words of a text."""
    plain = text.casefold()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    return set(re.findall(r"\w+", plain))


def sought(text: str) -> list[tuple[str, bool]]:
    """The words that are looked for, and whether they are beginnings: the last one is, where no space follows it."""
    whole = [(word, False) for word in sorted(words(text))]
    last = re.search(r"\w+$", text)
    if last is not None:
        (word,) = words(last[0])
        whole = [*((w, b) for w, b in whole if w != word), (word, True)]
    return whole
