"""High-precision log-uniform KL: the mpmath reference of the tests, and the maker of pyro_vd's Chebyshev table.

``python -m tests.reference.dawson`` prints the coefficients that pyro_vd/special.py holds.
"""

import mpmath as mp

mp.mp.dps = 50
KNEE = 6
SIZE = 60
LIMIT = (mp.euler + mp.log(2)) / 2


def log_uniform_kl(inverse_alpha) -> mp.mpf:
    """Exact KL(N(theta, sigma^2) || log-uniform) at r = theta^2 / sigma^2, zero at r = 0 (50 digits)."""
    u = mp.mpf(inverse_alpha) / 2
    if u < 60:
        return u * mp.hyp2f2(1, 1, mp.mpf(3) / 2, 2, -u)
    alpha, term, series = 1 / (2 * u), mp.mpf(1), mp.mpf(0)
    for k in range(1, 60):  # asymptotic series of E log|1 + sqrt(alpha) z|; its smallest term is below 1e-50 here
        term *= (2 * k - 1) * alpha
        series += term / (2 * k)
    return LIMIT - mp.log(alpha) / 2 - series


def log_uniform_kl_slope(log_alpha) -> mp.mpf:
    """Exact d KL / d log_alpha = -sqrt(u) D(sqrt(u)), u = exp(-log_alpha) / 2, D = Dawson's function."""
    x = mp.sqrt(mp.exp(-mp.mpf(log_alpha)) / 2)
    if x > 8:  # erfi overflows nothing in mpmath, but its cancellation eats digits
        s, term = mp.mpf(1), mp.mpf(1)
        for k in range(1, 60):
            term *= (2 * k - 1) / (2 * x * x)
            s += term
        return -s / 2
    return -x * mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x)


def excess_over_v2(v) -> mp.mpf:
    """(exact KL - log1p(r)/2) / v^2 at r = KNEE v / (1 - v): the smooth function that the table expands."""
    if v == 0:
        return mp.mpf(KNEE) ** 2 / 6
    r = KNEE * v / (1 - v)
    return (log_uniform_kl(r) - mp.log1p(r) / 2) / v**2


def coefficients(size: int = SIZE) -> list[mp.mpf]:
    """Chebyshev coefficients on v in [0, 1], first one halved, from a grid of 1.6 size nodes."""
    nodes = int(1.6 * size)
    angles = [mp.pi * (k + mp.mpf(1) / 2) / nodes for k in range(nodes)]
    values = [excess_over_v2((mp.cos(a) + 1) / 2) for a in angles]
    sums = [2 * mp.fsum(f * mp.cos(j * a) for f, a in zip(values, angles, strict=True)) / nodes for j in range(size)]
    return [sums[0] / 2, *sums[1:]]


if __name__ == "__main__":
    for c in coefficients():
        print(f"    {mp.nstr(c, 19)},")
