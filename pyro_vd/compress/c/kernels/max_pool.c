/* Takes the maximum of the result and an image, moved by (y, x). */
static void take_larger(const struct window *window, const float *image, int y, int x, float *result) {
    const struct area area = inside(window, y, x);
    for (int row = area.top; row < area.bottom; row++) {
        const float *read = image + (row * window->stride_y + y) * window->width + x;
        float *largest = result + row * window->columns;
        for (int column = area.left; column < area.right; column++) {
            const float value = read[column * window->stride_x];
            largest[column] = value > largest[column] ? value : largest[column];
        }
    }
}

static void max_pool(const struct window *window, const float *x, float *result) {
    const int size = window->rows * window->columns;
    for (int channel = 0; channel < window->channels; channel++) {
        for (int i = 0; i < size; i++) {
            result[i] = -HUGE_VALF;
        }
        for (int i = 0; i < window->kernel_y; i++) {
            for (int j = 0; j < window->kernel_x; j++) {
                take_larger(window, x, i * window->dilation_y - window->padding_y,
                            j * window->dilation_x - window->padding_x, result);
            }
        }
        x += window->height * window->width;
        result += size;
    }
}
