"""The server around the commands: passwords, limits, connections, memory. Against redis-server where it has the same."""
