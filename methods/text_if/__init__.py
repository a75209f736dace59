"""Text-IF: one network that fuses a pair and mends the degradation that a sentence names."""
