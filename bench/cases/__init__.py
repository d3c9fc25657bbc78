"""Measurements of skep beside redis-server: same client, same pinning, same data, turn by turn, medians."""
