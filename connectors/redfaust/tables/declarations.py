"""What may be said where tables are declared; see ``processing/declarations.py``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from faust.exceptions import ImproperlyConfigured
from faust.tables.base import Collection
from yarl import URL

from redfaust.options import refuse_unknown
from redfaust.processing.declarations import check_partitions
from redfaust.tables.generated_columns import OWN_COLUMNS, generated_columns

CACHED_ROWS = "cached_rows"
"""The option of a table that says how many rows it may have in memory."""

PREFETCH_FOR = "prefetch_for"
"""The option of such a table that names the topics whose events use it; all, if it is not there."""

INDEXES = "indexes"
"""The option of a table that names columns to have an index."""

OPTIONS: Final = frozenset({CACHED_ROWS, PREFETCH_FOR, INDEXES})

_FAUSTS: Final = frozenset({"self", "app", "beacon", "loop", "kwargs"})
"""Parameters that Faust itself fills in."""
_ARGUMENTS: Final = frozenset(inspect.signature(Collection.__init__).parameters) - _FAUSTS


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raises ImproperlyConfigured for an unknown argument, or one with an impossible value."""
    what = f"Table {arguments.get('name')!r}"
    refuse_unknown(what, arguments.keys() - _FAUSTS, _ARGUMENTS, ImproperlyConfigured)
    check_partitions(what, arguments.get("partitions"))
    store = arguments.get("store")
    if store and not URL(store):
        # Faust takes it for none, and the application's store for the table.
        raise ImproperlyConfigured(f"{what}: store={str(store)!r}: write memory://tables")


def check_options(
    name: str, options: Mapping[str, Any], value_type: Any, *, in_postgres: bool, holds_sets: bool
) -> None:
    """``options={…}`` of a table. Those of other stores are left to them."""
    what = f"Table {name!r}, options"
    if not in_postgres:
        if ours := sorted(OPTIONS & options.keys()):
            raise ImproperlyConfigured(
                f"{what}: {ours[0]} means nothing here: it is for tables that Postgres keeps"
            )
        return
    refuse_unknown(what, options, OPTIONS, ImproperlyConfigured)
    if CACHED_ROWS in options:
        size = options[CACHED_ROWS]
        if type(size) is not int or size < 1:
            raise ImproperlyConfigured(
                f"{what}: {CACHED_ROWS}={size!r}: write a number of rows, at least 1"
            )
    for option in (PREFETCH_FOR, INDEXES):
        if option in options and not _is_list_of_names(options[option]):
            raise ImproperlyConfigured(
                f'{what}: {option}={options[option]!r}: write a list of names, ["orders"]'
            )
    if PREFETCH_FOR in options and CACHED_ROWS not in options:
        raise ImproperlyConfigured(f"{what}: {PREFETCH_FOR} needs {CACHED_ROWS} beside it")
    fields = () if holds_sets else (column.field for column in generated_columns(value_type))
    columns = OWN_COLUMNS.union(fields)
    refuse_unknown(f"{what}, {INDEXES}", options.get(INDEXES, ()), columns, ImproperlyConfigured)


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(each, str) and each for each in value
    )
