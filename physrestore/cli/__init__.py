"""The command line: the only place that prints, turns strings into objects, and exits."""

from physrestore.cli.app import main as main
