/* The lowest position p >= 0 at which p * stride + offset >= limit. */
static int first_position(int limit, int offset, int stride) {
    return offset >= limit ? 0 : (limit - offset + stride - 1) / stride;
}

/* Rows and columns of the result, bottom and right excluded. */
struct area {
    int top, bottom, left, right;
};

/* Where the result reads numbers of the image, and no padding, if its windows are moved by (y, x). */
static struct area inside(const struct window *window, int y, int x) {
    struct area area = {
        first_position(0, y, window->stride_y), first_position(window->height, y, window->stride_y),
        first_position(0, x, window->stride_x), first_position(window->width, x, window->stride_x)};
    area.bottom = area.bottom < window->rows ? area.bottom : window->rows;
    area.right = area.right < window->columns ? area.right : window->columns;
    return area;
}
