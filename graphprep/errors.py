"""What can go wrong with what the user gave: as a whole (shown to him as it is), or with one report of it (a reject)."""


class UserError(Exception):
    """A mistake in what the user gave: the message names the file or option, what was expected and what to do.

    Commands print the message without a traceback and exit with code 2. The message never quotes report text.
    """


class ReportError(Exception):
    """One report cannot be used: it becomes a reject with this reason (an identifier) and detail (a sentence without its text)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
