/* scale * x + shift; the positions of a channel follow each other. */
static void affine(int channels, int positions, const float *scale, const float *shift, const float *x,
                   float *result) {
    for (int channel = 0; channel < channels; channel++) {
        for (int i = 0; i < positions; i++) {
            *result++ = scale[channel] * *x++ + shift[channel];
        }
    }
}
