"""The one exception that bad input raises; every command prints its sentence and exits with code 2."""


class DataError(Exception):
    """What was expected, what was found and what to do, in one sentence."""
