"""What is wrong with a run folder, a config or a checkpoint; commands print the sentence and exit with code 2."""


class CheckpointError(Exception):
    """What was expected, what was found and what to do, in one sentence."""


class StoppedEarly(Exception):
    """A run was told to stop and has saved its state: the same command goes on from there."""
