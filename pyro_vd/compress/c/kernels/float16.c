/* Weights are IEEE 754 numbers of 16 bits. */
typedef uint16_t weight;

static float to_float(weight stored) {
    const uint32_t bits = (uint32_t)(stored & 0x7fffu) << 13;
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude *= 5.192296858534828e33f; /* 2^112: the exponents of the two types have other offsets */
    return stored & 0x8000u ? -magnitude : magnitude;
}
