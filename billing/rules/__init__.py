"""What is watched, one rule per file; `registry.py` lists them all."""
