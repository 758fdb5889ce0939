"""Types that pydantic knows, as keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import faust
import pytest
from faust.exceptions import KeyDecodeError, ValueDecodeError
from faust.serializers.registry import Registry as FaustRegistry
from pydantic import BaseModel, Field

from redfaust.processing.dead_letters import letter_about
from redfaust.processing.serializers import Registry
from redfaust.processing.typed_values import dumps_json, typed_value
from tests.unit.test_decoding import message, new_app


class Card(BaseModel):
    number: str = Field(pattern="^[0-9]+$")


class Payment(BaseModel):
    kind: Literal["payment"] = "payment"
    amount: int = Field(gt=0)
    card: Card | None = None


class Refund(BaseModel):
    kind: Literal["refund"] = "refund"
    of: UUID = Field(alias="refundOf")


@dataclass(frozen=True)
class Account:
    bank: str
    number: int


Movement = Annotated[Payment | Refund, Field(discriminator="kind")]

REFUND = Refund(refundOf=UUID(int=7))


class Point(faust.Record):
    x: int


@pytest.fixture
def registry() -> Registry:
    serializers = new_app().serializers
    assert isinstance(serializers, Registry)
    return serializers


@pytest.mark.parametrize("codec", [None, "raw", "json", "json|binary"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Payment, Payment(amount=250, card=Card(number="4111"))),
        (Refund, REFUND),
        (Movement, REFUND),
        (list[Payment], [Payment(amount=1), Payment(amount=2)]),
        (dict[str, Payment], {"a": Payment(amount=1)}),
        (Payment | None, None),
        (Account, Account("gls", 7)),
        (UUID, UUID(int=7)),
        (tuple[str, int], ("a", 1)),
        (dict, {"a": 1}),
    ],
)
def test_what_is_written_is_read_again(
    registry: Registry, kind: Any, value: Any, codec: str | None
) -> None:
    if not (value is None and codec == "raw"):  # which is how a row is deleted: no value at all
        content = registry.dumps_value(kind, value, serializer=codec)
        assert registry.loads_value(kind, content, serializer=codec) == value
    if value is not None:
        content = registry.dumps_key(kind, value, serializer=codec)
        assert registry.loads_key(kind, content, serializer=codec) == value


def test_a_model_needs_no_declared_type(registry: Registry) -> None:
    assert registry.dumps_value(None, REFUND) == registry.dumps_value(Refund, REFUND)
    nested = registry.dumps_value(None, {"refunds": [REFUND]})
    assert registry.loads_value(dict[str, list[Refund]], nested) == {"refunds": [REFUND]}
    assert nested == dumps_json({"refunds": [REFUND]})


def test_what_its_readers_would_refuse_is_not_sent(registry: Registry) -> None:
    assert registry.dumps_value(Payment, {"amount": 1}) == dumps_json(Payment(amount=1))
    with pytest.raises(ValueError, match=r"^Payment: amount: Input should be greater than 0$"):
        registry.dumps_value(Payment, {"amount": 0})
    with pytest.raises(ValueError, match="Payment: "):
        registry.dumps_value(Payment, REFUND)


def test_a_reason_names_fields_and_shows_no_values(registry: Registry) -> None:
    secret = b'{"amount": "hush", "card": {"number": "hush-hush"}}'
    with pytest.raises(ValueDecodeError) as refused:
        registry.loads_value(Payment, secret)
    text = str(refused.value)
    assert text.startswith("Payment: amount: Input should be a valid integer")
    assert "; card.number: String should match pattern '^[0-9]+$'" in text
    letter = letter_about(new_app(), message(None, secret), refused.value, agent="book", attempts=1)
    assert not [column for column in letter.row() if "hush" in str(column) and column != secret]


def test_a_long_list_of_reasons_is_cut(registry: Registry) -> None:
    with pytest.raises(ValueDecodeError, match=r"; and 5 more$") as refused:
        registry.loads_value(list[int], dumps_json(["x"] * 10))
    assert str(refused.value).startswith("list[int]: 0: Input should be a valid integer")


@pytest.mark.parametrize("content", [None, b"", b"null", b"{", b"[]", b"\xff"])
def test_what_is_none_is_refused(registry: Registry, content: bytes | None) -> None:
    with pytest.raises(ValueDecodeError, match="Payment: "):
        registry.loads_value(Payment, content)
    with pytest.raises(KeyDecodeError, match="Payment: "):
        registry.loads_key(Payment, content)


def test_nothing_is_a_value_where_the_type_admits_it(registry: Registry) -> None:
    assert registry.loads_value(Payment | None, None) is None
    assert registry.loads_value(Payment | None, b"null") is None


def test_a_type_that_nobody_knows_is_told(registry: Registry) -> None:
    with pytest.raises(ValueDecodeError, match="neither Faust nor pydantic"):
        registry.loads_value(type("Own", (), {}), b"{}")


@pytest.mark.parametrize("kind", [None, str, bytes, int, float, Point])
def test_fausts_types_stay_fausts(kind: Any) -> None:
    assert typed_value(kind) is None


def test_rows_have_to_be_of_their_type() -> None:
    typed = typed_value(Payment)
    assert typed is not None
    assert typed.dumps_exactly(Payment(amount=1)) == dumps_json(Payment(amount=1))
    with pytest.raises(TypeError, match=r"Payment.* is needed, and dict is none"):
        typed.dumps_exactly({"amount": 1})


def test_a_registry_of_ones_own_stays() -> None:
    class Own(FaustRegistry):
        pass

    assert type(new_app(Serializers=Own).serializers) is Own
