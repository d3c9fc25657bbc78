"""The same generated commands to redis-server and to another server; every reply must be the same."""
