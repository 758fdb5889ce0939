"""What a commit writes: each changed row in its stored form, with the events that changed it."""

from __future__ import annotations

from faust.types import TP

from redfaust.processing.changes import LATER, Causes, Changes, Row

FIRST = ("agent", TP("words", 0), 1)
SECOND = ("agent", TP("words", 0), 2)
BATCH = [("other", TP("words", 1), 7), ("other", TP("words", 1), 8)]


def changes(*written: tuple[str, Row, Causes | None]) -> Changes:
    made = Changes()
    for key, row, causes in written:
        made.rows[key] = row
        made.writes.append((key, causes))
    return made


def test_each_who_wrote_a_row_is_known_in_order() -> None:
    both = changes(("a", (0, 1, LATER), FIRST), ("b", (0, 1, LATER), None)).before(
        changes(
            ("c", (1, 1, LATER), FIRST), ("a", (0, 2, LATER), BATCH), ("a", (0, 3, "3"), SECOND)
        )
    )
    assert both.causes_of(["a", "b"]) == {"a": [FIRST, *BATCH, SECOND], "b": []}


def test_what_is_given_back_does_not_replace_what_is_newer() -> None:
    older = changes(("a", (0, 1, LATER), FIRST), ("b", (0, 1, LATER), FIRST))
    newer = changes(("a", (0, None, None), SECOND))
    assert older.before(newer).rows == {"a": (0, None, None), "b": (0, 1, LATER)}
