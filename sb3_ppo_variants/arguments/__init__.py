"""What users pass: the signature of a variant, and checks with clear errors."""
