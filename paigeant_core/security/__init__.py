"""Proof of who started a workflow, who did its steps, and that nobody else changed it.

`keys` signs, `trust` says whose signature counts for what, `records` is the form of one
signed record, `chain` verifies and folds many, `hop` is what dispatcher and worker call.
Nothing here is imported where no signature was asked for.
"""
