"""The engine of the text-guidance audit, which answers whether the text does anything.

Its definitions are in ``tgfbench.metrics.audit`` and ``docs/audit.md``; here are request, work, files and terminal.
"""
