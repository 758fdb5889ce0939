"""Money for people: everywhere else it is an integer in minor units."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

_DEFAULT_DIGITS: Final = 2
# ISO 4217, list one: currencies whose minor unit is not a hundredth.
_WHOLE: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THOUSANDTHS: Final = "BHD IQD JOD KWD LYD OMR TND"
_DIGITS: Final = {
    **dict.fromkeys(_WHOLE.split(), 0),
    **dict.fromkeys(_THOUSANDTHS.split(), 3),
}


def format_money(minor_units: int, currency: str) -> str:
    """Such as ``1,234.50 EUR``."""
    digits = _DIGITS.get(currency, _DEFAULT_DIGITS)
    return f"{Decimal(minor_units).scaleb(-digits):,.{digits}f} {currency}"
