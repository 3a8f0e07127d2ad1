/* How a convolution or a pool reads images. */
struct window {
    int channels, height, width; /* of what is read */
    int rows, columns;           /* of the result */
    int kernel_y, kernel_x, stride_y, stride_x;
    int padding_y, padding_x;    /* above and left */
    int dilation_y, dilation_x;
};
