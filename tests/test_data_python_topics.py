"""The bundled text of the Python documentation: pinned, whole, and cut into words as said."""

import hashlib
import re
from importlib import resources

from vitcourse.data import python_topics

# Of the text rather than of the packed file, which differs between versions of zlib.
SHA256 = "a00e91188694bf3fde928dd4d764282d2c5a06c779993ba2e112fbb69a3df38b"


def test_text_is_the_pinned_snapshot():
    assert hashlib.sha256(python_topics.text().encode("utf-8")).hexdigest() == SHA256


def test_licence_stands_beside_it_and_names_version_and_changes():
    assets = resources.files("vitcourse.data").joinpath("assets")
    notice = assets.joinpath("python-topics-LICENSE.txt").read_text(encoding="utf-8")
    for part in ("Python 3.11.7", "2001-2023 Python Software Foundation", "Summary of changes", "LICENSE AGREEMENT"):
        assert part in notice
    assert len(assets.joinpath("python-topics.txt.gz").read_bytes()) < 400_000


def test_topics_are_whole():
    topics = python_topics.topics()
    assert len(topics) == 79
    assert topics[0].startswith('The "assert" statement\n')
    assert topics[-1].startswith('The "yield" statement\n')
    assert sum(map(len, topics)) + 78 * len(python_topics.SEPARATOR) == len(python_topics.text())


def test_sentences_end_at_full_stops_and_empty_lines_but_not_inside_names():
    sentences = python_topics.sentences()
    assert sentences[0] == ["the", "assert", "statement"]
    assert sentences[1][:4] == ["assert", "statements", "are", "a"]
    assert all(sentences)
    assert all(re.fullmatch(r"[a-z_][a-z0-9_]*", word) for sentence in sentences for word in sentence)
    assert "__enter__" in python_topics.words()


def test_words_are_those_of_the_sentences_in_order():
    words = python_topics.words()
    assert len(words) == sum(map(len, python_topics.sentences())) == 63_637
    assert words[:4] == ["the", "assert", "statement", "assert"]
