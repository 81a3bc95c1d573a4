"""The shell that examples run in."""

from __future__ import annotations

import pytest
from warm_commands import Shell, warm_shell


@pytest.fixture(scope="session")
def shell() -> Shell:
    return warm_shell()
