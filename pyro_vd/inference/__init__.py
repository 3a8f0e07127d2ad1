"""Training: fit and what it is made of."""
