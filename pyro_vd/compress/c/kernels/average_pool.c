static int smaller(int one, int other) {
    return one < other ? one : other;
}

/* Without a divisor, the number of positions, with or without those of the padding. */
static void average_pool(const struct window *window, int include_padding, int divisor, const float *x,
                         float *result) {
    for (int channel = 0; channel < window->channels; channel++) {
        for (int row = 0; row < window->rows; row++) {
            for (int column = 0; column < window->columns; column++) {
                int top = row * window->stride_y - window->padding_y;
                int left = column * window->stride_x - window->padding_x;
                int bottom = smaller(top + window->kernel_y, window->height + window->padding_y);
                int right = smaller(left + window->kernel_x, window->width + window->padding_x);
                const int padded = (bottom - top) * (right - left);
                float sum = 0.0f;
                top = top > 0 ? top : 0;
                left = left > 0 ? left : 0;
                bottom = smaller(bottom, window->height);
                right = smaller(right, window->width);
                for (int y = top; y < bottom; y++) {
                    for (int at = left; at < right; at++) {
                        sum += x[y * window->width + at];
                    }
                }
                const int inside = (bottom - top) * (right - left);
                *result++ = sum / (float)(divisor ? divisor : include_padding ? padded : inside);
            }
        }
        x += window->height * window->width;
    }
}
