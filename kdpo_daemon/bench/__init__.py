"""Published numbers: what `kdpo bench` measures, on real data, with the daemon's own stages."""
