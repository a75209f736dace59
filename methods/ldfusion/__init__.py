"""LDFusion: trained with language in the loss, run without."""
