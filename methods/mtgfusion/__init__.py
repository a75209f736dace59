"""MTG-Fusion: five texts guide what two images share and what each shows alone (IJCV 2025)."""
