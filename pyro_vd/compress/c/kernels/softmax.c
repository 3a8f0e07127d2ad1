/* Softmax over the middle axis, or its logarithm. */
static void softmax(int logarithm, int before, int length, int after, const float *x, float *result) {
    for (int i = 0; i < before * after; i++) {
        const int start = i / after * length * after + i % after;
        float largest = x[start], sum = 0.0f;
        for (int j = 1; j < length; j++) {
            largest = fmaxf(largest, x[start + j * after]);
        }
        for (int j = 0; j < length; j++) {
            sum += expf(x[start + j * after] - largest);
        }
        for (int j = 0; j < length; j++) {
            const float centered = x[start + j * after] - largest;
            result[start + j * after] = logarithm ? centered - logf(sum) : expf(centered) / sum;
        }
    }
}
