"""Faust's tables as tables of Postgres: ``store="postgresql://…"``."""

from redfaust.tables.manager import TableManager
from redfaust.tables.store import PostgresStore
from redfaust.tables.table import Table

__all__ = ["PostgresStore", "Table", "TableManager"]
