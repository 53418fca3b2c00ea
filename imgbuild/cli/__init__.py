"""The command line: arguments in, text and exit codes out, and the one place where errors are rendered."""
