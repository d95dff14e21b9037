"""The one exception whose text is shown to the user as it is."""


class UserError(Exception):
    """A mistake in what the user gave: the message names the file or option, what was expected and what to do.

    Commands print the message without a traceback and exit with code 2. The message never quotes report text.
    """
