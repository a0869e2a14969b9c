"""The command line run in this process."""

import json
from dataclasses import dataclass

import pytest

from zoo.cli import run


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def zoo(capsys):
    """`zoo("list", "resnet")` as the shell would run it."""

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
