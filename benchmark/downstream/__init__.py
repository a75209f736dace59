"""The engine of downstream evaluation: which images, what was done already, and who does the rest.

The tasks are in ``metrics/downstream/``; ``docs/downstream.md`` tells the way of the data.
"""
