"""One exception tree: every error names the thing that failed and what to do about it."""


class KdpoError(Exception):
    """Something failed.  `subject` names the thing, `hint` says what to do about it."""

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.hint = hint

    def __str__(self) -> str:
        """Give `subject: message. hint`, leaving out what is empty."""
        head = f"{self.subject}: {self.message}" if self.subject else self.message
        return f"{head}. {self.hint[0].upper()}{self.hint[1:]}" if self.hint else head


class SettingsError(KdpoError):
    """The configuration cannot be used as it is."""


class SourceError(KdpoError):
    """A feed could not be fetched or read; the other feeds go on.

    `retry_after` is the publisher's own wish in seconds, `gone` says that it will not come back,
    `busy` that its server wants fewer requests, `missing` that it knows no such document;
    `moved_to` is where permanent redirects led, of what is gone there.
    """

    def __init__(  # noqa: PLR0913 one argument per thing that the daemon acts on
        self,
        message: str,
        *,
        subject: str = "",
        hint: str = "",
        retry_after: float | None = None,
        gone: bool = False,
        busy: bool = False,
        missing: bool = False,
        moved_to: str | None = None,
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.moved_to = moved_to
        self.retry_after = retry_after
        self.gone = gone
        self.busy = busy
        self.missing = missing


class RefusedError(SourceError):
    """One thing that a source gave is refused, such as a line or a file; the rest goes on.

    `field` is the key or column that is wrong, "" if it is not one alone.
    """

    def __init__(
        self, message: str, *, subject: str = "", hint: str = "", field: str = ""
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.field = field


class StoreError(KdpoError):
    """The database cannot be used: unreachable, at another migration, or without that row."""


class LeaseHeldError(StoreError):
    """Another daemon is at work on this database; it will pass when that one stops or dies."""


class ReplicaError(KdpoError):
    """A vLLM server did not do what was asked; `status` is its HTTP status, if it answered."""

    def __init__(
        self, message: str, *, subject: str = "", hint: str = "", status: int | None = None
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.status = status


class UnfitError(ReplicaError):
    """A vLLM server cannot serve our versions as it was started; another one may."""


class TuningError(KdpoError):
    """Training gave no adapter; `refused` says that the same order would fail again."""

    def __init__(
        self, message: str, *, subject: str = "", hint: str = "", refused: bool = False
    ) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.refused = refused


class AdapterError(KdpoError):
    """An adapter directory is missing, incomplete, or not what its manifest says."""
