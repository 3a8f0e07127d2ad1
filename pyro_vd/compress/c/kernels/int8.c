typedef int8_t weight;

static float to_float(weight stored) {
    return (float)stored;
}
