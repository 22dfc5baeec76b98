"""The Python face of the companion: what the runbook's commands need. The work itself is done in Rust."""
