"""The commands of the client, each a module that the command line imports when asked for it."""
