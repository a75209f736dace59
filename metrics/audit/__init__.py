"""The text-guidance audit: does the prompt do anything, where, and in the right direction?

``docs/audit.md`` defines every number. ``prompts`` writes the counterfactual prompts, ``measures`` turns the fused
images of one sample into numbers, ``verdict`` turns the numbers of many samples into statistics and a verdict.
"""
