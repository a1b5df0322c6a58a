"""How it runs: the command line, settings, the embedded broker, the supervisor and HTTP serving."""
