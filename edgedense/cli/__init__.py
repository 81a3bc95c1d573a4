"""The command line: parse, call, print, exit code. Nothing heavy is imported before it is used."""

from edgedense.cli.main import main

__all__ = ["main"]
