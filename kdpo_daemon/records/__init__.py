"""Every value that crosses a stage, one module for each step of the pipeline.

Frozen records and enums only: no behaviour beyond a derived name, no input or output.
All times are timezone-aware UTC.  In order: intake, facts, teaching, adapters, serving, and
stories, which puts one fact's records together again.
"""
