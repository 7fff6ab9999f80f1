"""What all commands share: the configuration, the JSON switch, where text goes."""

import getpass
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kdpo_daemon.app import App, read_settings
from kdpo_daemon.errors import SettingsError

#: Exit status of a command that was done but met something that needs attention.
ATTENTION = 3

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

console = Console()
complaints = Console(stderr=True)


def app_of(ctx: typer.Context) -> App:
    """Build the app from the configuration file that the command line names."""
    file: Path = ctx.obj
    return App(read_settings(file))


def actor() -> str:
    """Name who gives the order, for the audit log."""
    return f"operator:{getpass.getuser()}"


def complain(problem: str) -> None:
    """Say on standard error what needs attention."""
    complaints.print(problem, style="yellow", markup=False, soft_wrap=True)


def need_extra(packages: Sequence[str], why: str) -> None:
    """Refuse to go on without the packages of the extra `edit`."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"not installed, and {why}",
            subject=", ".join(missing),
            hint="pip install 'kdpo-daemon[edit]', or in a checkout: pip install '.[edit]'",
        )
