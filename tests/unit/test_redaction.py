from __future__ import annotations

import time

import pytest

from redfaust.printable import printable
from redfaust.processing.redaction import LENGTH, masked_text, preview, preview_named


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (b"", ""),
        (b'{"sku":"tea","quantity":2}', '{"sku":"tea","quantity":2}'),
        (b'{"password":"hush","n":1}', '{"password":"***","n":1}'),
        (b'{"a":[{"access_Token":{"x":"hush"}}]}', '{"a":[{"access_Token":"***"}]}'),
        (b'{"card_number":4111111111111111}', '{"card_number":"***"}'),
        (b'{"email":"ada.lovelace@example.org"}', '{"email":"a***@example.org"}'),
        (
            b'{"note":"token=hush, then ada@example.org"}',
            '{"note":"token=***, then a***@example.org"}',
        ),
        (b"Authorization: Bearer hush\nnext", "Authorization: ***\\nnext"),
        (b'{"password": "hush", "cut": ', '{"password": ***, "cut": '),
        (b'{"password": "hu', '{"password": ***'),
        (b"\xff\x00garbage", "\\xff\\x00garbage"),
    ],
)
def test_a_preview_shows_the_shape_and_hides_the_secret(value: bytes | None, shown: str) -> None:
    assert preview(value) == shown


def test_a_preview_is_short() -> None:
    assert len(preview(b'{"text":"' + b"x" * 10_000 + b'"}')) == LENGTH
    assert len(preview(b"x" * 3_000_000)) == LENGTH


def test_a_preview_of_deep_json_ends() -> None:
    shown = preview(b"[" * 900 + b"]" * 900)
    assert shown.startswith("[[[")
    assert "…" in shown


def test_a_preview_cannot_command_a_terminal() -> None:
    shown = preview(b'"\\u001b[2J\xc2\x9b2J\xe2\x80\xae"') + preview(b"\x1b[2J\xff")
    assert shown.isprintable()
    assert printable("a\n\x1b", keep="\n") == "a\n\\x1b"


def test_masking_takes_time_in_proportion_to_the_text() -> None:
    begin = time.perf_counter()
    masked_text("token" * 100_000 + "." * 100_000 + "a" * 100_000 + "@" * 1_000)
    assert time.perf_counter() - begin < 2.0


def test_headers_are_masked_by_their_names() -> None:
    assert preview_named("Authorization", b"Bearer hush") == "***"
    assert preview_named("correlation_id", b"c-1") == "c-1"
