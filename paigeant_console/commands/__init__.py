"""The verbs of the command line, a module for each group; imported when they are called."""
