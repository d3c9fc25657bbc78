"""Queues of leased jobs: one node, and while leaders, nodes and workers are killed."""
