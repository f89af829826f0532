"""The one error that a person is meant to read."""


class StageError(Exception):
    """Something that the user can put right. The message names every offender and says what to do.

    Commands and stages print it without a traceback and end with exit status 1.
    """
