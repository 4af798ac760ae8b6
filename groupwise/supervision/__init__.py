"""Ends: whatever ends a command, a signal or a kill, it leaves no process, no open pipe and no flow run that seems to run."""
