"""Figures, each beside a limit or a peer that is measured in the same run."""
