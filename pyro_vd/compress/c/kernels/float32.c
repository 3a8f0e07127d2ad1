typedef float weight;

static float to_float(weight stored) {
    return stored;
}
