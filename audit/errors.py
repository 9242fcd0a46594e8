"""What can be wrong with embeddings and indices."""


class AuditError(Exception):
    """One sentence: what was expected, what was found, what to do."""
