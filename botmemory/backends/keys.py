"""The keys of a block: the strategies and symbols of whose rows it depends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from .._values import plain_text
from ..errors import ValidationError, show

Key = tuple[str | None, str]
"""A strategy, None or "" for rows without one, and a symbol."""

Keys = frozenset[Key]


def checked_keys(value: Key | Iterable[Key]) -> Keys:
    """Return the keys that a caller gives as one pair or as several.

    Raises:
        ValidationError: A key is not a pair of a strategy and a symbol.
    """
    is_pair = isinstance(value, tuple) and not any(isinstance(of, (tuple, list)) for of in value)
    pairs: Any = [value] if is_pair else value
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        _refuse(value)
    keys = frozenset(_checked_key(pair) for pair in pairs)
    if not keys:
        _refuse(value)
    return keys


def _checked_key(pair: object) -> Key:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        _refuse(pair)
    strategy, symbol = pair
    if not (strategy is None or isinstance(strategy, str)) or not isinstance(symbol, str):
        _refuse(pair)
    if not plain_text(symbol):
        _refuse(pair)
    return plain_text(strategy or "") or None, plain_text(symbol)


def _refuse(value: object) -> NoReturn:
    raise ValidationError(
        f"key: {show(value)} is not a pair of a strategy and a symbol; pass "
        "key=('trend', 'BTC/USDT'), several as a list, and '' for rows without a strategy",
        field="key",
    )


def number_of(key: Key) -> int:
    """Return the number of the advisory lock of a key; it must never change."""
    import hashlib  # imported late: only a server has locks of keys

    strategy, symbol = key
    # a label has no character that is not printable, so that no two keys have one text
    text = f"{'' if strategy is None else strategy}\0{symbol}"
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"botmemory key").digest()
    return int.from_bytes(digest, "big", signed=True)


def key_of_state(strategy: str, name: str) -> Key:
    """Return the key of one row of the table `state`; its symbol is none that a row can have."""
    return strategy or None, f"\0{name}"


def require_key(keys: Keys, key: Key) -> None:
    """Refuse what depends on a key that the block does not have.

    Raises:
        ValidationError: The message names the key.
    """
    if key not in keys:
        needed = (key[0] or "", key[1])
        raise ValidationError(
            f"key: a block with {shown(keys)} cannot use rows of {needed!r}; add that key to "
            "session_scope(key=[...]), or leave key out",
            field="key",
        )


def refuse_row_without_key(keys: Keys, row: str) -> NoReturn:
    """Refuse a row that belongs to no key."""
    raise ValidationError(
        f"key: {row} belongs to no key, and a block with {shown(keys)} cannot use it; use it "
        "outside of the block, or leave key out",
        field="key",
    )


def refuse_unknown_key(keys: Keys, what: str) -> NoReturn:
    """Refuse what may depend on other rows than those of the block's keys."""
    raise ValidationError(
        f"key: {what} in a block with {shown(keys)} may use other rows than those of its keys; "
        "call a function of botmemory.repositories with symbol= and strategy=, or leave key out",
        field="key",
    )


def refuse_state_of_many_keys(keys: Keys) -> NoReturn:
    """Refuse what reads rows of the table `state` that others may add."""
    raise ValidationError(
        f"key: others may set other keys of the state meanwhile, and a block with {shown(keys)} "
        "cannot depend on all of them; call state.get() for each key, or leave key out",
        field="key",
    )


def shown(keys: Keys) -> str:
    """Return keys as a caller writes them."""
    pairs = sorted((strategy or "", symbol) for strategy, symbol in keys)
    if len(pairs) == 1:
        return f"key={pairs[0]!r}"
    return f"key=[{', '.join(map(repr, pairs[:3]))}{', ...' if len(pairs) > 3 else ''}]"
