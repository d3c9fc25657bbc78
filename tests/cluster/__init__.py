"""Three nodes as processes on hosts of their own, killed, stopped and cut off while clients watch."""
