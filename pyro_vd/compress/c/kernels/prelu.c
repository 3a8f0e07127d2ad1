static void prelu(int channels, int positions, const float *slopes, const float *x, float *result) {
    for (int channel = 0; channel < channels; channel++) {
        for (int i = 0; i < positions; i++, x++) {
            *result++ = *x > 0.0f ? *x : slopes[channel] * *x;
        }
    }
}
