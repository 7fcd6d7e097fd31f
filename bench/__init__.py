"""What things cost beside their peers: one file a subject, each with a ``main``."""
