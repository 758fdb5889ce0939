"""Faust's tables as tables of Postgres: ``store="postgresql://…"``."""

from connectors.tables.manager import TableManager
from connectors.tables.store import PostgresStore
from connectors.tables.table import Table

__all__ = ["PostgresStore", "Table", "TableManager"]
