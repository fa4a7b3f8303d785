"""The fault matrix: real engines, real faults, and a ledger of every record.

`generator` makes numbered telemetry, `rig` runs the engines and breaks them, `hop` is the wire
between two of them, `ledger` balances what was made against what is stored, `rows` says what is
promised. `docs/reliability.md` is the table.
"""
