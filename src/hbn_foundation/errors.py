"""The error that a user can mend."""


class UserError(Exception):
    """A mistake in the input or the configuration.

    The message is one line that names the file or key, the value found and what is expected;
    the command line prints it without a traceback.
    """
