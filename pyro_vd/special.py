"""The part of the exact log-uniform KL that exceeds the hierarchical one: a smooth bounded function of 1/alpha."""

import torch
from torch import Tensor

__all__ = ["dawson_excess"]

# The exact KL is 2 * integral of Dawson's function from 0 to sqrt(r / 2), with r = 1/alpha (Hron et al. 2018 announce
# the form; tests/reference/dawson.py derives the numbers). Its difference to log1p(r) / 2 is v^2 times a function of
# v = r / (r + KNEE) that is smooth on all of [0, 1], so that one Chebyshev series serves every r with plain ops:
# autograd, torch.export and inductor see nothing special. Printed by `python -m tests.reference.dawson`.
KNEE = 6.0
TERMS = {torch.float64: 60, torch.float32: 20}
COEFFICIENTS = (
    2.449489742783178098,
    -2.417017961341206727,
    0.7624121117826380368,
    -0.2214847117341736769,
    0.09068160192917578875,
    -0.03840892350720194816,
    0.01253921049741130761,
    -0.004597362861100124215,
    0.002160745655792979431,
    -0.0007488899914310216919,
    0.0002506907361154876027,
    -0.0001346390346859587792,
    0.0000463040501046494483,
    -0.00001316773921996138323,
    9.546175176669804587e-6,
    -2.788671483302935198e-6,
    5.515672566597200272e-7,
    -8.34244941330768317e-7,
    1.140471080917409616e-7,
    -9.651977533140677599e-9,
    9.388205625708802175e-8,
    1.267453816323452213e-8,
    2.376540626526618497e-9,
    -1.169326208544653502e-8,
    -5.655819159475060742e-9,
    -2.02307122678164425e-9,
    9.91019280018805262e-10,
    1.213483268743975493e-9,
    7.472990838080353372e-10,
    1.391061148176584579e-10,
    -1.333330898184220979e-10,
    -1.717514719752660572e-10,
    -9.55804230848125743e-11,
    -2.069098162574328655e-11,
    1.834871924420959715e-11,
    2.411921620336828056e-11,
    1.488078045194309308e-11,
    4.200866078633434928e-12,
    -1.950476741071684025e-12,
    -3.50391172895635526e-12,
    -2.529664020168561088e-12,
    -9.992218486972003594e-13,
    6.973596572179845664e-14,
    4.787586650059280366e-13,
    4.406976838335203725e-13,
    2.356696702316771868e-13,
    4.937972500409072087e-14,
    -5.032691384646891746e-14,
    -7.198863420510995037e-14,
    -5.171925935601680143e-14,
    -2.19199839612777608e-14,
    -1.261597079162390613e-16,
    9.468374317063763902e-15,
    9.958696970557503319e-15,
    6.283884736166445142e-15,
    2.213773938971342735e-15,
    -4.588423342430630218e-16,
    -1.488384395853012386e-15,
    -1.39413207595180715e-15,
    -8.30971673067273425e-16,
)


def dawson_excess(inverse_alpha: Tensor) -> Tensor:
    """Exact log-uniform KL minus log1p(1/alpha)/2, in nats, in [0, 0.6352].

    Args:
        inverse_alpha: r = theta^2 / sigma^2 >= 0, any shape, float32 (error below 3e-7) or float64 (below 1e-14).

    Raises:
        TypeError: for any other dtype.
    """
    if inverse_alpha.dtype not in TERMS:
        raise TypeError(f"the exact log-uniform KL needs float32 or float64, not {inverse_alpha.dtype}")
    v = inverse_alpha / (inverse_alpha + KNEE)
    return v.square() * _chebyshev(COEFFICIENTS[: TERMS[inverse_alpha.dtype]], 2 * v - 1)


def _chebyshev(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Clenshaw's recurrence for the sum of c_k T_k(x)."""
    later, latest = torch.zeros_like(x), torch.zeros_like(x)
    for c in reversed(coefficients[1:]):
        later, latest = latest, 2 * x * latest - later + c
    return x * latest - later + coefficients[0]
