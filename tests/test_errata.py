"""The errata: each link, section, task and check really exists, and each figure stands in the section that is named."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from vitcourse.authoring import notebooks
from vitcourse.checks import SHEETS, Exercise

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "notebooks" / "errata.md"
TEXT = PAGE.read_text(encoding="utf-8")
SAID, WRITTEN = TEXT.split("\n## ")[1:]
ENTRIES = {
    int(number): re.sub(r"\s+", " ", body).strip()
    for number, body in re.findall(r"^(\d+)\. (.+?)(?=^\d+\. |^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
}

# Which of the mistakes that a check recognises an entry speaks of, by the functions' names: "check: mistake".
NAMED = {
    1: ["equivariance_error: invariance"],
    3: [
        "attention_weights: without_softmax",
        "attention_weights: divided_by_d_k",
        "scaled_dot_product: weights_instead_of_output",
    ],
    4: ["scaled_dot_product: keys_fetched"],
    6: ["count_multiply_adds: parameters"],
    7: ["crossover: rule_of_thumb"],
    9: ["LayerNorm: over_the_tokens"],
    10: ["predict: length_of_one_row", "patchify: one_row_high"],
    11: ["predict: patch_size_for_grid"],
    14: ["ViT: gelu_at_the_end"],
    17: ["verdict: without_the_baseline", "pixel_map: stretched"],
    19: ["balanced_accuracy: plain_accuracy", "majority_baseline: chance"],
    20: [
        "attention_weights: softmax_over_queries",
        "attention_weights: softmax_over_the_first_axis",
        "fixed_weights: still_broken",
    ],
    21: [
        "multi_head: scale_of_the_full_width",
        "multi_head: heads_without_scale",
        "fixed_attention: still_broken",
        "fixed_attention: no_scale",
    ],
    22: ["split_heads: reshaped_in_one_go"],
    23: ["split_heads: full_width_for_every_head"],
    24: ["fixed_rows: still_broken", "attention_weights: sum_without_keepdim"],
    25: ["collect_weights: hooks_that_never_fire"],
    26: ["patchify: one_reshape", "fixed_patches: still_broken"],
    27: ["linear_from_convolution: rows_with_channels_last"],
    28: ["patchify: cropped_in_silence", "ViT: cropped_in_silence", "fixed_embedding: still_broken"],
    29: ["LearnedPositionalEmbedding: one_vector_for_all_tokens", "ViT: one_position_for_all"],
    30: ["ViT: cls_last_but_row_0_read", "ViT: cls_first_but_last_row_read", "FixedReadout: still_the_first_patch"],
    31: ["Block: batch_first_forgotten", "FixedMixer: still_leaking"],
    32: ["LayerNorm: divided_by_one_less", "LayerNorm: eps_outside_the_root", "fixed_norm: still_broken"],
    33: [
        "Encoder: one_block_in_all_places",
        "Encoder: copies_of_one_block",
        "FixedEncoder: still_shared",
        "FixedEncoder: copies",
    ],
    34: ["Encoder: no_final_norm"],
    35: ["LearnedPositionalEmbedding: uniform_from_zero_to_one", "ViT: starts_too_large"],
    36: ["trained: dropout_left_on", "FixedMLP: still_dropping"],
    37: ["with_new_head: the_old_head", "tuned: six_logits"],
    38: ["with_new_head: everything_anew"],
    39: ["overfit_one_batch: probabilities_into_the_loss", "ViT: softmax_at_the_end"],
    40: ["resize_positions: cls_scaled_along"],
}


def cell_part(number):
    """The bullet that says where the course shows it."""
    return ENTRIES[number].split(" - Check")[0].split(" - Cell: ")[1]


def check_part(number):
    _, _, part = ENTRIES[number].partition(" - Check")
    return part


def source_and_outputs(cell):
    outputs = [{k: v for k, v in o.get("data", {}).items() if k.startswith("text")} for o in cell.get("outputs", [])]
    streams = [o.get("text", "") for o in cell.get("outputs", [])]
    return "\n".join([cell.source, *streams, json.dumps(outputs, ensure_ascii=False)])


def sections(path):
    """What stands under each `## number title` of a notebook: {number: (title, text)}."""
    whole = "\n\n".join(source_and_outputs(cell) for cell in notebooks.read(path).cells)
    parts = re.split(r"^## (\d+) (.+)$", whole, flags=re.MULTILINE)
    return {int(n): (title.strip(), text) for n, title, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


def after_links(pattern, text):
    """(the notebook of the last link before it, match) for each match of a pattern, whose groups count from 2."""
    path = None
    for match in re.finditer(rf"\]\(([^)]+)\)|{pattern}", text):
        if match[1]:
            path = PAGE.parent / match[1]
        else:
            yield path, match


def named_sections(text):
    """(notebook, section's number, what is said after it) for each section that a text names."""
    return [(path, int(match[2]), text[match.end() :]) for path, match in after_links(r"[Ss]ection (\d+), ", text)]


def named_tasks(text):
    """(sheet, task, check or "") for each task that a text names."""
    named = after_links(r"\b(\d\.\d+), (?:`(\w+)`|marked by hand)", text)
    return [(path, match[2], match[3] or "") for path, match in named]


def checks(path):
    """The exercises of a sheet's check module."""
    module = import_module(f"vitcourse.checks.{SHEETS[int(path.stem.split('-')[1]) - 1]}")
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


def test_entries_are_numbered_on_and_stand_in_two_parts():
    assert TEXT.startswith("# Errata of the field\n")
    assert [part.partition("\n")[0] for part in (SAID, WRITTEN)] == ["Said", "Written"]
    assert list(ENTRIES) == list(range(1, len(ENTRIES) + 1))
    assert 20 <= len(ENTRIES) <= 40
    assert all(body.count(" - Cell: ") == 1 and body.startswith("**") for body in ENTRIES.values())


def test_lines_and_length_keep_the_page_readable():
    assert max(map(len, TEXT.splitlines())) <= 170
    assert len(re.sub(r"\]\([^)]*\)", "]", TEXT).split()) < 2700


def test_every_link_leads_to_a_file():
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(targets) > len(ENTRIES)
    for target in targets:
        assert (PAGE.parent / target).resolve().is_file(), target
    assert "http" not in TEXT


@pytest.mark.parametrize("number", ENTRIES)
def test_the_sections_exist_with_their_titles(number):
    found = named_sections(cell_part(number))
    assert found
    assert len(found) == len(re.findall(r"[Ss]ection \d", cell_part(number)))
    for path, section, rest in found:
        title, _ = sections(path)[section]
        said = rest.replace("*", "")
        assert said.startswith(title), (path.name, section, title)
        assert said[len(title)] in ":,", (path.name, section, title)


@pytest.mark.parametrize("number", ENTRIES)
def test_the_figures_stand_in_the_sections(number):
    part = cell_part(number)
    text = "\n".join(sections(path)[section][1] for path, section, _ in named_sections(part))
    said = re.sub(r"\[\d\d\]\([^)]*\)|[Ss]ection \d+", " ", part)
    for figure in re.findall(r"(?<![\w.,])\d+(?:[.,]\d+)*", said):
        plain = re.escape(figure.replace(",", ""))
        assert re.search(rf"(?<![\d.]){plain}(?![\d]|\.\d)", re.sub(r"(?<=\d)[,_](?=\d)", "", text)), figure


@pytest.mark.parametrize("number", [n for n in ENTRIES if check_part(n)])
def test_the_checks_exist_in_the_task_and_name_the_mistake(number):
    part = check_part(number)
    found = named_tasks(part)
    assert found
    assert len(found) == len(re.findall(r"\b\d\.\d", part))
    assert {name for _, _, name in found if name} == {pair.split(": ")[0] for pair in NAMED.get(number, [])}
    for path, task, name in found:
        whole = "\n\n".join(cell.source for cell in notebooks.read(path).cells)
        (body,) = re.findall(rf"^## {re.escape(task)} (.+?)(?=^## |\Z)", whole, flags=re.MULTILINE | re.DOTALL)
        assert f"check.{name}({name})" in body if name else "marked by a person" in body
        mistakes = {mistake.answer.__name__ for mistake in checks(path)[name].mistakes} if name else set()
        for pair in NAMED.get(number, []):
            check, mistake = pair.split(": ")
            assert check != name or mistake in mistakes, pair


def test_every_named_mistake_belongs_to_an_entry_with_a_check():
    assert set(NAMED) == {n for n in ENTRIES if "`" in check_part(n)}
