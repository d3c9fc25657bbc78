"""Measurements of skep beside redis-server and etcd: same load, same machine, same data, turn by turn, medians."""
