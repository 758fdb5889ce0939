"""An application with types for what this library adds to Faust."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from re import Pattern
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import faust

if TYPE_CHECKING:
    import asyncio

    from faust.types import ChannelT, CodecArg, EventT, SchemaT
    from faust.types.agents import AgentFun, SinkT
    from faust.types.windows import WindowT
    from mode import Seconds, SupervisorStrategyT

    from redfaust.processing.agent import Agent
    from redfaust.processing.retries import Retries
    from redfaust.processing.topic import Topic
    from redfaust.tables.table import Table

T = TypeVar("T")


class App(faust.App):
    """:class:`faust.App`, as type checkers should see it where redfaust's URLs are used.

    At runtime it is Faust's class: both get topics, tables and agents of this library by
    ``broker="redis://…"`` and ``store="postgresql://…"``. Faust's annotations know neither
    ``retries=`` of an agent nor ``schedule`` of a topic nor ``load`` of a table, and admit no
    pydantic model as ``value_type``.
    """

    if TYPE_CHECKING:

        def agent(
            self,
            channel: str | ChannelT[T] | None = None,
            *,
            name: str | None = None,
            concurrency: int = 1,
            supervisor_strategy: type[SupervisorStrategyT] | None = None,
            sink: Iterable[SinkT] | None = None,
            isolated_partitions: bool = False,
            use_reply_headers: bool = True,
            retries: Retries = ...,
            delivery: Literal["ordered", "shared"] = "ordered",
            on_give_up: Callable[[EventT[T], Exception], Awaitable[None]] | None = None,
            **kwargs: Any,
        ) -> Callable[[AgentFun[T]], Agent]:
            """See :class:`~redfaust.processing.agent.Agent`."""

        def topic(
            self,
            *topics: str,
            pattern: str | Pattern[str] | None = None,
            schema: SchemaT[Any, Any] | None = None,
            key_type: Any = None,
            value_type: Any = None,
            key_serializer: CodecArg = None,
            value_serializer: CodecArg = None,
            partitions: int | None = None,
            retention: Seconds | None = None,
            compacting: bool | None = None,
            deleting: bool | None = None,
            replicas: int | None = None,
            acks: bool = True,
            internal: bool = False,
            config: Mapping[str, Any] | None = None,
            maxsize: int | None = None,
            allow_empty: bool = False,
            has_prefix: bool = False,
            loop: asyncio.AbstractEventLoop | None = None,
        ) -> Topic:
            """``key_type`` and ``value_type`` are types that pydantic or Faust knows. See
            :class:`~redfaust.processing.topic.Topic`."""

        def Table(  # noqa: N802 - Faust's name
            self,
            name: str,
            *,
            default: Callable[[], Any] | None = None,
            window: WindowT | None = None,
            partitions: int | None = None,
            help: str | None = None,  # noqa: A002
            **kwargs: Any,
        ) -> Table:
            """See :class:`~redfaust.tables.table.Table`."""
