"""How the system names its errors, which messages quote; Windows and Wine have other words."""

from __future__ import annotations

import os

NO_SUCH_FILE = "No such file or directory"
NOT_A_FOLDER = "Not a directory"  # on the way to a file
IS_A_FOLDER = "Is a directory"  # where a file is opened or replaced
if os.name != "posix":
    # the first one where a file is opened, and the others where it is looked at or renamed
    NO_SUCH_FILE += "|The system cannot find the (file|path) specified|(File|Path) not found"
    NOT_A_FOLDER = NO_SUCH_FILE
    IS_A_FOLDER = "is a folder|Permission denied|Access (is )?denied"
NO_SUCH_FILE, NOT_A_FOLDER = f"({NO_SUCH_FILE})", f"({NOT_A_FOLDER})"
IS_A_FOLDER = f"({IS_A_FOLDER})"
