"""What a figure asks of its readers' eyes: contrast after WCAG 2, and whether colour is ever the only sign."""

from __future__ import annotations

from matplotlib.colors import to_hex, to_rgb

TEXT, GRAPHIC = 4.5, 3.0  # level AA: ordinary text; parts of a picture


def luminance(colour):
    """Relative luminance, 0 black to 1 white (WCAG 2, "relative luminance")."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other="white"):
    """1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def pale_texts(figure):
    """Texts too pale for white paper; over an image or a bar other paper may lie, and white is allowed."""
    found = []
    for ax in figure.axes:
        over = bool(ax.images or ax.patches or ax.collections)
        for text in [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]:
            white = over and to_hex(text.get_color()) == "#ffffff"
            if text.get_text().strip() and not white and contrast(text.get_color()) < TEXT:
                found.append(f"{text.get_text()!r}: {to_hex(text.get_color())}")
    return found


def by_colour_alone(figure):
    """Lines of one picture that only their colour tells apart: same dashes, width and mark, no label in that colour.

    Hairlines that go with a thicker line of their colour, such as single runs with their mean, don't count.
    """
    found = []
    for ax in figure.axes:
        labels = {to_hex(text.get_color()) for one in figure.axes for text in one.texts}
        legend = {text.get_text() for one in figure.axes if one.get_legend() for text in one.get_legend().texts}
        looks = {}
        for line in ax.lines:
            colour = to_hex(line.get_color())
            look = line.get_linestyle(), line.get_marker(), line.get_fillstyle(), round(line.get_linewidth())
            thicker = any(
                to_hex(o.get_color()) == colour and o.get_linewidth() > line.get_linewidth() for o in ax.lines
            )
            if line.get_label() not in legend and not (thicker and line.get_linewidth() < 1):
                looks.setdefault(look, set()).add(colour)
        for look, colours in looks.items():
            if len(colours - labels) > 1:
                found.append(f"{look}: {', '.join(sorted(colours))}")
    return found
