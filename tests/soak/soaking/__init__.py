"""A server for a long time under load while things go wrong: ``python -m soaking``."""
