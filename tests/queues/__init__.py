"""Queues of leased jobs: one node, and while leaders are killed."""
