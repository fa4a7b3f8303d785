"""The dashboard API: a thin, read-only proxy that turns named questions into JSON.

The service computes no percentile and stores no metric of its own. Every number here is
the answer of Prometheus to a query of `queries.py`; this package only asks, bounds what
asking may cost, and shapes the answer. It knows nothing about transcripts except the
words of `telemetry.vocabulary`.
"""
