"""Pages to read: feedback for each learner, and all texts to mark by hand for the teacher. No script in them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from vitcourse.grading.by_hand import FILE, Given, sign
from vitcourse.grading.marks import Mark

STYLE = (
    "body{font-family:sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:white}"
    "pre{white-space:pre-wrap}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing from elsewhere is fetched, whatever a learner wrote


def feedback(mark: Mark) -> str:
    """The learner's page: marks, cards, and what was said by hand."""
    result = mark.result
    titles = [row.title for row in result.rows]
    parts = []
    for row in result.rows:
        given = mark.given.get(row.grade_id, Given())
        points = given.points if row.earned is None else row.earned
        short = row.grade_id.removeprefix("check-")
        name = f"{row.title}, {short}" if titles.count(row.title) > 1 and row.title else row.title or short
        shown = "to come" if points is None else f"{points:g}"
        parts.append(f"<h2>{html.escape(name)}: {shown} of {row.points:g}</h2>")
        parts.append(f"<p>{html.escape(given.comment)}</p>" if row.earned is None else row.card)
    total = "to come" if mark.mark is None else f"{mark.mark:.2f} of 10"
    if mark.is_late and mark.mark is not None:
        total += f" ({mark.in_time:.2f}, less {mark.in_time - mark.mark:.2f} for being late)"
    told = "".join(f"<p>{html.escape(part)}</p>" for part in mark.told)
    return _document(f"{result.name} · {result.sheet}", f"<p>Mark: {total}</p>\n{told}\n" + "\n".join(parts))


def texts(marks: Sequence[Mark], answers: Mapping[tuple[str, str], str]) -> str:
    """All texts to mark by hand, question by question, each with its student and sign in by-hand.csv.

    Args:
        answers: the model answer and mark scheme of a question, by sheet and grade id; shown above the texts.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for mark in marks:
        for row in mark.result.texts:
            head = html.escape(f"{mark.result.name} · {mark.result.student} · {sign(row.text)} · of {row.points:g}")
            said = f"<h3>{head}</h3><pre>{html.escape(row.text)}</pre>"
            found.setdefault((mark.result.sheet, row.grade_id), []).append(said)
    parts = []
    for key, each in sorted(found.items()):
        parts.append(f"<h2>{html.escape(' · '.join(key))}</h2>")
        if key in answers:
            model = html.escape(answers[key])
            parts.append(f"<details><summary>Model answer and mark scheme</summary><pre>{model}</pre></details>")
        parts += each
    return _document(f"To mark by hand, in {FILE}", "\n".join(parts))


def _document(title: str, body: str) -> str:
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    main = f"<body><main><h1>{html.escape(title)}</h1>\n{body}\n</main></body>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n{main}</html>\n'
