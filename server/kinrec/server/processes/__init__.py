"""The processes of a server: a supervisor that decides which version is served, and workers that serve it."""
