"""Where a teacher may want to look: names in a hand-in that an honest answer doesn't need."""

from __future__ import annotations

import ast

from vitcourse.grading.handed_out import Sheet
from vitcourse.grading.matching import Matched, parsed

CURIOUS_MODULES = {
    *("builtins", "ctypes", "gc", "importlib", "inspect", "multiprocessing", "pickle", "signal", "socket"),
    *("concurrent", "subprocess", "threading"),
}
CURIOUS_NAMES = {"exec", "eval", "__import__", "__builtins__"}
CURIOUS_ATTRIBUTES = {
    *("reference", "_getframe", "_current_frames", "f_back", "tb_frame", "get_objects", "settrace"),
    *("__globals__", "__closure__", "__code__", "_exit", "fork", "system", "popen", "setprofile"),
}


def remarks(matched: Matched, sheet: Sheet) -> tuple[str, ...]:
    """A remark for the teacher on each such name and cell, the sheet's own cells apart; it costs nothing."""
    handed_out = {cell.source.strip() for cell in sheet.notebook.cells}
    found = set()
    for step in matched.steps:
        tree = parsed(step.source) if step.source.strip() not in handed_out else None
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                words = {part for name in names for part in name.split(".")} & CURIOUS_MODULES
            elif isinstance(node, ast.Attribute):
                words = {node.attr} & CURIOUS_ATTRIBUTES
            else:
                words = {node.id} & CURIOUS_NAMES if isinstance(node, ast.Name) else set()
            found |= {(step.cell, word) for word in words}
    return tuple(f"look at cell {cell}: it uses {word}" for cell, word in sorted(found))
