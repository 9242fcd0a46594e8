"""What is said of an ablation's rows."""

from benchmarks.ablation import (
    AFTER_MAE,
    UNTRAINED,
    Row,
    distance_table,
    figure_of,
    goals,
    is_ordered,
    score_table,
)

IN_ORDER = {"distance_timbre": 0.1, "distance_family": 0.3, "distance_other_family": 0.5}
OUT_OF_ORDER = IN_ORDER | {"distance_other_family": 0.3}


def row(objective: str, start: str, *retrieval: float, depth: float | None = None, **more) -> Row:
    known = {} if depth is None else {"wrong_neighbour_depth": depth}
    return Row(objective, start, [{"family_map_at_r": value} | known | IN_ORDER for value in retrieval], **more)


def test_order_needs_only_the_depths_that_there_are():
    assert is_ordered(IN_ORDER)
    assert not is_ordered(OUT_OF_ORDER)
    assert is_ordered({})


def test_goals_compare_means():
    rows = [
        row("log_mel", "", 0.4),
        row("mae", UNTRAINED, 0.2, 0.5),
        row("ntxent", UNTRAINED, 0.3, 0.3),
        row("supcon", AFTER_MAE, 0.3, 0.4),
        row("triplet_one", AFTER_MAE, 0.3, depth=3.4),
        row("triplet", AFTER_MAE, 0.6, 0.5, depth=3.1),
    ]
    rows[-1].scores[1].update(OUT_OF_ORDER)
    found = goals(rows)
    assert [line.split()[0] for line in found] == ["MISSED", "met", "MISSED", "met"]
    assert "MAE then supcon" in found[0]
    assert "log-mel statistics: -0.05" in found[0]
    assert ": 0.15, goal" in found[1]
    assert "in order: 0.5, goal at least 1" in found[2]
    assert ": -0.3, goal at most 0" in found[3]


def test_goals_that_nothing_can_be_said_of_are_left_out():
    assert goals([row("triplet", AFTER_MAE), row("mae", UNTRAINED, 0.1)]) == []
    assert len(goals([row("triplet", UNTRAINED, 0.1), row("triplet_one", UNTRAINED, 0.1)])) == 1


def test_tables_leave_out_what_was_not_scored():
    rows = [row("triplet", AFTER_MAE, 0.5, 0.7, clips=12_800, seconds=9.6), row("supcon", UNTRAINED, num_collapsed=3)]
    first, second = score_table(rows).splitlines()[2:]
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "triplet, tree margins", "MAE", "0.600 ± 0.141", *[""] * 6, "2", "0", "12,800", "10",
    ]  # fmt: skip
    assert [cell.strip() for cell in second.split("|")[3:-1]] == [*[""] * 7, "0", "3", "0", "0"]
    first, second = distance_table(rows).splitlines()[2:]
    assert [cell.strip() for cell in first.split("|")[3:-1]] == [
        "0.100 ± 0.000", "", "0.300 ± 0.000", "0.500 ± 0.000", "", "2 of 2",
    ]  # fmt: skip
    assert second.split("|")[-2].strip() == "0 of 0"


def test_the_figure_has_a_picture_of_retrieval_and_one_of_distances_a_test():
    rows = [row("log_mel", "", 0.4), row("triplet", AFTER_MAE, 0.5, 0.7), row("supcon", UNTRAINED)]
    figure = figure_of({"unseen timbres": rows, "unseen font": rows[:1]})
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "family mAP@R, unseen timbres",
        "mean distance by where clips part in the tree, unseen timbres",
        "family mAP@R, unseen font",
        "mean distance by where clips part in the tree, unseen font",
    ]
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    assert [round(width, 6) for width in bars] == [0.4, 0.6]
