/* Adds a weight times an image, moved by (y, x), to the result. */
static void add_moved(const struct window *window, float factor, const float *restrict image, int y, int x,
                      float *restrict result) {
    const struct area area = inside(window, y, x);
    const int stride = window->stride_x;
    for (int row = area.top; row < area.bottom; row++) {
        const float *restrict read = image + (row * window->stride_y + y) * window->width + x;
        float *restrict sums = result + row * window->columns;
        if (stride == 1) { /* apart, so that a compiler can compute several columns at once */
            for (int column = area.left; column < area.right; column++) {
                sums[column] += factor * read[column];
            }
        } else {
            for (int column = area.left; column < area.right; column++) {
                sums[column] += factor * read[column * stride];
            }
        }
    }
}

/* The gaps of an output are those of a linear layer over (channels of a group, kernel_y, kernel_x). */
static void convolve(const struct window *window, int groups, int outputs, const uint8_t *gaps,
                     const weight *values, float scale, const float *bias, const float *x, float *result) {
    const int image = window->height * window->width, size = window->rows * window->columns;
    const int kernel = window->kernel_y * window->kernel_x, inputs = window->channels / groups * kernel;
    for (int output = 0; output < outputs; output++, gaps++, result += size) {
        const float *images = x + output / (outputs / groups) * (window->channels / groups) * image;
        const int is_dense = *gaps == 254;
        int index = 0;
        for (int i = 0; i < size; i++) {
            result[i] = bias ? bias[output] : 0.0f;
        }
        for (int i = 0; is_dense ? i < inputs : *gaps != 255; i++) {
            index = is_dense ? i : index + *gaps++;
            add_moved(window, scale * to_float(*values++), images + index / kernel * image,
                      index % kernel / window->kernel_x * window->dilation_y - window->padding_y,
                      index % window->kernel_x * window->dilation_x - window->padding_x, result);
        }
    }
}
