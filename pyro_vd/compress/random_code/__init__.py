"""Codes a posterior itself: each block of weights is the number of a draw from the prior."""
