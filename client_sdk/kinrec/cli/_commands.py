"""The commands and where they are. A module is imported when its command is asked for, not before.

A command's module has `add_arguments(parser)` and `run(args)`, which returns the exit code.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import argparse


_LARGEST = {"server": "onnxruntime", "trainer": "torch"}


class CommandModule(Protocol):
    """What the module of a command has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the command and return the exit code."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `kinrec`.

    Attributes:
        name: What is typed.
        module: Where it is.
        extra: What must be installed with kinrec for it; empty for nothing.
        help: What it does, in one line.
    """

    name: str
    module: str
    extra: str
    help: str

    def is_installed(self) -> bool:
        """Whether the extra is there, judged by its largest library, which is not imported."""
        return not self.extra or importlib.util.find_spec(_LARGEST[self.extra]) is not None

    def load(self) -> CommandModule:
        """Import the module."""
        return cast("CommandModule", importlib.import_module(self.module))


COMMANDS = (
    Command(
        "train",
        "kinrec.trainer.commands.train",
        "trainer",
        "learn from events and write a bundle into a store",
    ),
    Command(
        "tune",
        "kinrec.trainer.commands.tune",
        "trainer",
        "look for better settings of the encoder on one log",
    ),
    Command(
        "evaluate",
        "kinrec.trainer.commands.evaluate",
        "trainer",
        "measure the answers of a bundle beside the baselines",
    ),
    Command(
        "recommend-all",
        "kinrec.trainer.commands.recommend_all",
        "trainer",
        "write recommendations for every user into a file",
    ),
    Command(
        "verify",
        "kinrec.verify.commands.verify",
        "server",
        "compare a bundle's answers by torch, ONNX and a live server",
    ),
    Command("inspect", "kinrec.engine.commands.inspect", "server", "show what a bundle holds"),
    Command("serve", "kinrec.server.commands.serve", "server", "answer calls with a bundle"),
    Command(
        "pin",
        "kinrec.server.commands.pin",
        "server",
        "say which version of a store its servers are to serve",
    ),
    Command("token", "kinrec.server.commands.token", "server", "make a token for a caller"),
    Command(
        "top", "kinrec.server.commands.top", "server", "show live how a server does, by its metrics"
    ),
    Command("call", "kinrec.client.commands.call", "", "ask a server"),
    Command(
        "sample-data",
        "kinrec.trainer.commands.sample_data",
        "trainer",
        "write events and items to try kinrec with",
    ),
)
