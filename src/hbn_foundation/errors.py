"""The error that a user can mend."""


class UserError(Exception):
    """A mistake in the input or the configuration.

    The message is one line that names the file or key, the value found and what is expected;
    the command line prints it without a traceback.
    """


def mistake(error: BaseException | None) -> UserError | None:
    """Return the mistake of the user that an error comes from, if one lies below it."""
    while error is not None:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None
