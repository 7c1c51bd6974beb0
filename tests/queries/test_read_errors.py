"""What an error of a read leaves behind."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from botmemory import StorageError, Trade, close_db, init_db
from botmemory.database import db
from botmemory.repositories import trades


class Held:
    """What the caller of a read has, which must be freed with its frame."""


def test_a_row_that_cannot_be_read_frees_the_frames_of_its_error(path: Path) -> None:
    init_db(path)
    trade = Trade.create(symbol="BTC/USDT", side="buy", price=1, quantity=1)
    db.obj.execute_sql("PRAGMA ignore_check_constraints = 1")
    db.obj.execute_sql("UPDATE trade SET timestamp = 'noon'")
    held: list[weakref.ref[Held]] = []

    def read() -> None:
        local = Held()
        held.append(weakref.ref(local))
        trades.get_by_id(trade.id)

    gc.disable()
    try:
        with pytest.raises(StorageError, match="contains a row that cannot be read") as caught:
            read()
        del caught
        assert held[0]() is None
    finally:
        gc.enable()
    close_db()
