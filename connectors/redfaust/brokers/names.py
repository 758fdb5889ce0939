"""Which names topics and headers may have, on every broker.

Strangers name topics too: a row of the outbox that SQL wrote, an argument of ``send``.
"""

from __future__ import annotations

LONGEST_TOPIC = 249
"""Characters, as in Kafka, which makes files and directories of topics."""


def topic_fault(topic: str) -> str | None:
    """Say what is wrong with a topic's name, and what to do; ``None`` if nothing is.

    The text can be printed, whatever the name is.
    """
    if not topic:
        return "a topic has no name: give it one"
    if len(topic) > LONGEST_TOPIC:
        return (
            f"topic {topic[:20]!a}… has a name of {len(topic)} characters: "
            f"use up to {LONGEST_TOPIC}"
        )
    if not topic.isprintable():
        return (
            f"topic {topic!a} has characters in its name that cannot be printed: "
            "use letters, digits, dots, - and _"
        )
    if topic.startswith("}"):
        # Redis would see an empty hash tag, and spread a partition's keys over the slots.
        return f"topic {topic!a} has a name that begins with a brace: begin with a letter"
    return None


def header_name(name: str) -> str:
    """A header's name as every broker and Postgres can keep it: what is no text is replaced."""
    return name.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
