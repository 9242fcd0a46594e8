"""What is said of fine-tuning's rows."""

import json

import pytest

from benchmarks.bands_table import (
    PRETRAINED,
    UNTRAINED,
    Row,
    as_values,
    efficiency_table,
    figure_of,
    goals,
    report,
    score_table,
)


def row(method: str, start: str, *scores: float, share: float = 1.0, **more) -> Row:
    runs = {
        seed: {
            "test": {"instrument_f1_macro": value - 0.1, "instrument_f1_micro": value, "instrument_map": value}
            | {"instrument_classes": 12},
            "seconds": 10.0 + seed,
        }
        | more
        for seed, value in enumerate(scores)
    }
    return Row(method, start, share, runs)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_goals_compare_an_adapter_with_the_best_probe_the_untrained_backbone_and_full_training():
    rows = [
        row("mfcc_svm", "", 0.5),
        row("linear_probe", PRETRAINED, 0.40, 0.44),
        row("linear_probe", UNTRAINED, 0.9),  # no rival: it is another row's opponent
        row("lora", PRETRAINED, 0.50, 0.56),
        row("lora", UNTRAINED, 0.49),
        row("full", PRETRAINED, 0.55),
        row("full", PRETRAINED, 0.1, share=0.1),
        row("lora", PRETRAINED, 0.1, share=0.1),
    ]
    found = goals(rows)
    assert [line.split()[0] for line in found] == ["met", "met", "MISSED"] * 2
    assert "LoRA, macro F1 over the best of probes and SVM (MFCC + SVM): 0.03, goal at least 0.02" in found[0]
    assert "LoRA, macro F1 over the same from an untrained backbone: 0.04" in found[1]
    assert "LoRA, mAP over full fine-tuning: -0.02, goal at least 0" in found[5]


def test_goals_that_nothing_can_be_said_of_are_left_out():
    assert goals([row("lora", PRETRAINED), row("mfcc_svm", "", 0.3)]) == []
    assert goals([row("bottleneck", PRETRAINED, 0.3)]) == []
    assert len(goals([row("bottleneck", PRETRAINED, 0.3), row("full", PRETRAINED, 0.2)])) == 2


def test_tables_hold_mean_and_spread_over_seeds():
    rows = [
        row("mfcc_svm", "", 0.5),
        row("head", PRETRAINED, 0.5, 0.7, trainable=0, parameters=5_500_000),
        row("lora", UNTRAINED, trainable=73_728, parameters=5_500_000),
        row("head", PRETRAINED, 0.2, share=0.01),
    ]
    svm, head, lora = map(cells, score_table(rows[:3]).splitlines()[2:])
    assert svm == ["MFCC + SVM", "", "0.400", "0.500", "0.500", "", "1", "10"]
    assert head == [
        "head only", "pretrained", "0.500 ± 0.141", "0.600 ± 0.141", "0.600 ± 0.141", "0.0 (0.00%)", "2", "10",
    ]  # fmt: skip
    assert lora == ["LoRA", "untrained", "", "", "", "", "0", ""]
    header, _, svm, head, lora = map(cells, efficiency_table(rows, "instrument_map").splitlines())
    assert header == ["method", "start", "1 %", "100 %"]
    assert head == ["head only", "pretrained", "0.200", "0.600 ± 0.141"]
    assert svm == ["MFCC + SVM", "", "", "0.500"]


def test_the_report_begins_with_all_labels_and_compares_shares_only_where_there_are_several():
    rows = [row("head", PRETRAINED, 0.2, share=0.1), row("head", PRETRAINED, 0.5)]
    headings = [line for line in report(rows).splitlines() if line.startswith("#")]
    assert headings == ["## 100 % of the labels", "## 10 % of the labels", "## mAP by labels"]
    assert "by labels" not in report(rows[1:])


def test_scores_over_different_instruments_are_not_passed_off_as_comparable():
    rows = [row("head", PRETRAINED, 0.2), row("lora", PRETRAINED, 0.5)]
    assert report(rows).startswith("Macro F1 and mAP are means over 12 instruments.")
    rows[1].runs[0]["test"]["instrument_classes"] = 11
    assert report(rows).startswith("Warning: macro F1 and mAP are means over different instruments (11, 12 of them)")


def test_json_holds_every_run():
    (value,) = json.loads(json.dumps(as_values([row("lora", PRETRAINED, 0.25, 0.5, share=0.1)])))
    assert (value["method"], value["start"], value["label_share"]) == ("lora", "pretrained", 0.1)
    assert [value["runs"][seed]["test"]["instrument_map"] for seed in ("0", "1")] == [0.25, 0.5]


def test_the_figure_shows_all_labels_beside_shares():
    rows = [
        row("mfcc_svm", "", 0.4),
        row("lora", PRETRAINED, 0.5, 0.7),
        row("lora", UNTRAINED, 0.3),
        row("lora", PRETRAINED, 0.2, share=0.1),
    ]
    figure = figure_of([*rows, row("full", PRETRAINED)])
    assert [axis.get_title() for axis in figure.axes] == [
        "macro F1, 100 % of the labels", "macro F1 by labels", "mAP, 100 % of the labels", "mAP by labels",
    ]  # fmt: skip
    assert [bar.get_width() for bar in figure.axes[2].patches] == pytest.approx([0.4, 0.6, 0.3])
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["MFCC + SVM", "LoRA"]
    drawn = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert drawn == ["LoRA, pretrained", "MFCC + SVM", "LoRA, untrained"]
    assert len(figure_of(rows[:3]).axes) == 2
