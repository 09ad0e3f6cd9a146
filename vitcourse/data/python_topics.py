"""Text of the Python documentation: what `help("topics")` of Python 3.11 shows, as sentences of words.

A snapshot, because `pydoc_data.topics` differs between versions of Python. PSF licence, beside the file.
"""

from __future__ import annotations

import gzip
import re
from importlib import resources

SOURCE = "pydoc_data.topics of Python 3.11.7, copyright 2001-2023 Python Software Foundation, PSF licence, python.org"
SEPARATOR = "\n\f\n"  # between two topics: a form feed
WORD = re.compile(r"[a-z_][a-z0-9_]*")
BETWEEN_SENTENCES = re.compile(r"\n\s*\n|(?<=[.!?:;])\s+")  # an empty line, or space after a full stop


def text() -> str:
    """The whole text as it was printed, about 465,000 characters."""
    with resources.files("vitcourse.data").joinpath("assets/python-topics.txt.gz").open("rb") as file:
        return gzip.decompress(file.read()).decode("utf-8")


def topics() -> list[str]:
    """The text of each topic, in the order of their names."""
    return text().split(SEPARATOR)


def sentences() -> list[list[str]]:
    """The words of each sentence, heading or line of code, in lower case: letters, digits, underscores.

    Names such as `__enter__` are words; numbers and punctuation are left out.
    """
    found = (WORD.findall(part) for part in BETWEEN_SENTENCES.split(text().lower()))
    return [sentence for sentence in found if sentence]


def words() -> list[str]:
    """All words one after another."""
    return [word for sentence in sentences() for word in sentence]
