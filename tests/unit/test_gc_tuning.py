"""A worker's collector of garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import faust
import pytest

from redfaust.gc_tuning import THRESHOLDS, tune_gc


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.enable()
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_worker_looks_for_garbage_less_often() -> None:
    faust.App("test", broker="memory://collector", store="memory://").worker_init()
    assert gc.get_threshold() == THRESHOLDS
    assert gc.get_freeze_count() > 0


def test_an_application_that_set_thresholds_itself_keeps_them() -> None:
    gc.set_threshold(123, 4, 5)
    tune_gc()
    assert gc.get_threshold() == (123, 4, 5)
    assert gc.get_freeze_count() == 0


def test_a_collector_that_is_off_stays_as_it_is() -> None:
    before = gc.get_threshold()
    gc.disable()
    tune_gc()
    assert gc.get_threshold() == before
