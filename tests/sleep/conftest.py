"""Fixtures that build the sleep binary."""

import pytest

from tests.sleep.programs import ARCHITECTURES, NATIVE, Program, build


@pytest.fixture(scope="session", params=ARCHITECTURES)
def arch(request: pytest.FixtureRequest) -> str:
    """Return each architecture in turn."""
    arch: str = request.param
    return arch


@pytest.fixture(scope="session")
def built(arch: str) -> Program:
    """Build the binary, even if nothing can run it here."""
    return build(arch)


@pytest.fixture(scope="session")
def sleep(built: Program) -> Program:
    """Build the binary. An emulator runs it if this machine can't."""
    assert built.command
    return built


@pytest.fixture(scope="session")
def native() -> Program:
    """Build the binary for this machine."""
    return build(NATIVE)
