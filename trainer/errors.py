"""The exceptions whose text is shown to the user as it is."""


class UserError(Exception):
    """A mistake in what the user gave: the message names the file or option, what was expected and what to do.

    Commands print the message without a traceback and exit with code 2. The message never quotes report text.
    """


class Diverged(Exception):
    """Training that cannot go on: the loss or a gradient is no number, or has exploded.

    The message names the step, the reports of the batch and the last good checkpoint. Commands print it and exit with code 1.
    """
