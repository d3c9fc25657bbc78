"""Damaged files under the real binary: it serves everything it acknowledged, or refuses and says where and what to do."""
