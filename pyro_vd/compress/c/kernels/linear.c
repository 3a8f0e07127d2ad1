/* For each output, the sum of its weights times the inputs that it reads.
 *
 * A row of gaps says which inputs these are: the first gap counts from input 0, each other one from the input before.
 * 255 ends a row. A row that is 254 alone reads all inputs. The weights of all rows follow each other.
 */
static void linear(int inputs, int outputs, const uint8_t *gaps, const weight *values, float scale,
                   const float *bias, const float *x, float *result) {
    for (int row = 0; row < outputs; row++) {
        float sum = 0.0f;
        if (*gaps == 254) {
            for (int i = 0; i < inputs; i++) {
                sum += to_float(values[i]) * x[i];
            }
            values += inputs;
        } else {
            const float *read = x;
            for (; *gaps != 255; gaps++, values++) {
                read += *gaps;
                sum += to_float(*values) * *read;
            }
        }
        gaps++;
        result[row] = scale * sum + (bias ? bias[row] : 0.0f);
    }
}
