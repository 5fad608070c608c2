"""The programs that the tests of `sleep/` run."""

import pytest

from tests.sleep.programs import ARCHITECTURES, NATIVE, Program, build


@pytest.fixture(scope="session", params=ARCHITECTURES)
def arch(request: pytest.FixtureRequest) -> str:
    """Each architecture in turn."""
    return request.param


@pytest.fixture(scope="session")
def built(arch: str) -> Program:
    """The binary, whether or not it can be run here."""
    return build(arch)


@pytest.fixture(scope="session")
def sleep(built: Program) -> Program:
    """The binary, run by an emulator where this machine can't."""
    assert built.command
    return built


@pytest.fixture(scope="session")
def native() -> Program:
    """The binary for this machine."""
    return build(NATIVE)
