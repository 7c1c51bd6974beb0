"""Fixtures for the tests of a bot: an empty database for each test.

pytest loads this module by its entry point in each test run of the environment. So it is beside the
package and imports it late: who uses no fixture does not wait for it, and what measures coverage
starts first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import peewee

    from botmemory._testing import Templates


@pytest.fixture(scope="session")
def botmemory_settings() -> Mapping[str, Any]:
    """Settings of `init_db` for the other fixtures; define it anew to change them.

    With custom tables, it returns `{"migrations": "the/folder"}`.
    """
    return {}


@pytest.fixture(scope="session")
def _botmemory_templates() -> Iterator[Templates]:
    from botmemory._testing import Templates

    templates = Templates()
    yield templates
    templates.close()


@pytest.fixture
def botmemory_db(
    _botmemory_templates: Templates,
    botmemory_settings: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[peewee.Database]:
    """An empty database in memory, open for this test: the open `peewee.Database`.

    It belongs to the thread of the test. `init_db()` without an argument returns it.
    """
    from botmemory import _testing

    before = threading.enumerate()
    database = _testing.open_in_memory(_botmemory_templates, botmemory_settings)
    monkeypatch.setenv("BOTMEMORY_DB_PATH", ":memory:")
    yield database
    _fail_for(_testing.close(database, before))


@pytest.fixture
def botmemory_file(
    _botmemory_templates: Templates,
    botmemory_settings: Mapping[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """An empty database in a file, open for this test and its threads: the path of the file.

    `init_db()` without an argument opens it, also again and in processes that the test starts.
    """
    from botmemory import _testing

    before = threading.enumerate()
    path = tmp_path / "botmemory.db"
    database = _testing.open_file(_botmemory_templates, botmemory_settings, path)
    monkeypatch.setenv("BOTMEMORY_DB_PATH", str(path))
    yield path
    _fail_for(_testing.close(database, before))


def _fail_for(problems: list[str]) -> None:
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)
