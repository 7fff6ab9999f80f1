"""Tells a gateway which version the alias stands for, where servers are asked by version.

Writes a file that the gateway reads, calls a command, or both.  Neither knows of any gateway in
particular: a template gives the file its form (docs/serving.md has some).
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

from kdpo_daemon.errors import AdapterError
from kdpo_daemon.records.adapters import Adapter
from kdpo_daemon.serving.aliases import replace_whole

_SAID = 300  #: characters of a failed command's last words that are shown


@dataclass(frozen=True)
class GatewayPolicy:
    """What is done when the alias is to stand for another version (mode `versioned`)."""

    rule: Path | None = None  #: file that the gateway reads, replaced in one step; none by default
    template: Path | None = None  #: of that file, with $alias and $version; by default JSON
    hook: tuple[str, ...] = ()  #: command that is called after; knows KDPO_ALIAS and KDPO_VERSION
    hook_s: float = 30.0  #: until the command must have ended


class Gateway:
    """The gateway in front of the servers, as far as it is ours to tell."""

    def __init__(self, policy: GatewayPolicy, environment: dict[str, str]) -> None:
        self._policy = policy
        self._environment = environment  #: the command gets it too: PATH, KUBECONFIG

    def stands_for(self, alias: str, adapter: Adapter) -> bool:
        """Tell whether the rule is there and names the version; True where no file is written."""
        if self._policy.rule is None:
            return True
        try:
            return self._policy.rule.read_text("utf-8") == self._text(alias, adapter)
        except (OSError, UnicodeDecodeError):
            return False

    def point(self, alias: str, adapter: Adapter) -> None:
        """Let the alias stand for the version.  May be called again.

        Raises:
            AdapterError: the file cannot be written, or the command failed.

        """
        if self._policy.rule is not None:
            replace_whole(self._policy.rule, self._text(alias, adapter), "the gateway's rule")
        if self._policy.hook:
            self._call(alias, adapter)

    def _text(self, alias: str, adapter: Adapter) -> str:
        words = {"alias": alias, "version": adapter.name}
        if self._policy.template is None:
            return json.dumps(words) + "\n"
        try:
            return Template(self._policy.template.read_text("utf-8")).substitute(words)
        except (OSError, UnicodeDecodeError, ValueError, KeyError) as error:
            raise AdapterError(
                f"not a template ({error!r})",
                subject=str(self._policy.template),
                hint="it may hold $alias and $version; write $$ for a dollar sign",
            ) from error

    def _call(self, alias: str, adapter: Adapter) -> None:
        words = {"KDPO_ALIAS": alias, "KDPO_VERSION": adapter.name}
        command = self._policy.hook
        try:
            ended = subprocess.run(  # noqa: S603 - the operator's own command, no shell
                command,
                env=self._environment | words,
                timeout=self._policy.hook_s,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _failed(command[0], str(error)) from error
        if ended.returncode:
            said = (ended.stderr or ended.stdout).decode("utf-8", "replace").strip()
            raise _failed(command[0], f"exit status {ended.returncode}; {said[-_SAID:]}")


def _failed(command: str, why: str) -> AdapterError:
    hint = "the versions are loaded; it is called again at the next reconcile"
    return AdapterError(f"the gateway's hook failed: {why}", subject=command, hint=hint)
