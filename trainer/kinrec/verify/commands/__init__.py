"""The command of this room, which the command line imports when asked for it."""
