"""The doctor: looks at everything that people set up by hand, and says how to mend what is wrong."""
