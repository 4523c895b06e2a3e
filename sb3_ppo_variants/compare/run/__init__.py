"""The cells of a comparison: trained, evaluated, written down."""
