"""The trainer's commands, each a module that the command line imports when asked for it."""
