"""axe-core, which finds what people with a screen reader or weak eyes could not use."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

AXE = "axe-core@4.14.1"
SERIOUS = {"serious", "critical"}
# a promise of what it finds in a page: the rule, how serious it is, and an element
VIOLATIONS = (
    'axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations.map('
    "(rule) => [rule.id, rule.impact, rule.nodes[0].html.slice(0, 200)]))"
)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, from npm; where it must be tested, it must be had."""
    folder = tmp_path_factory.mktemp("axe")
    problem = "there is no npm"
    if npm := shutil.which("npm"):
        command = [
            npm,
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
            AXE,
        ]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=False, timeout=120
        )
        script = folder / "node_modules" / "axe-core" / "axe.min.js"
        if script.is_file():
            return script.read_text(encoding="utf-8").replace("</script", "<\\/script")
        problem = f"npm has no {AXE}: {done.stderr.strip()[-200:]}"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)
