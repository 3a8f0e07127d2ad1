/* $network as C, written by pyro_vd. $stem.h says how to call it. */
#include "$stem.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

$parts
void ${prefix}_run(const float *input, float *output, float *scratch) {
    (void)scratch; /* some networks need none */
$statements
}

#ifdef ${upper}_SELF_TEST
#include <stdio.h>

static const float test_input[${upper}_INPUTS] = {
$test_input
};
static const float test_output[${upper}_OUTPUTS] = {
$test_output
};

int main(void) {
    static float scratch[${upper}_SCRATCH];
    float output[${upper}_OUTPUTS], difference = 0.0f, largest = 0.0f;
    ${prefix}_run(test_input, output, scratch);
    for (int i = 0; i < ${upper}_OUTPUTS; i++) {
        difference = fmaxf(difference, fabsf(output[i] - test_output[i]));
        largest = fmaxf(largest, fabsf(test_output[i]));
    }
    printf("largest difference %g, largest output %g\n", (double)difference, (double)largest);
    return difference <= ${tolerance}f * largest ? 0 : 1;
}
#endif
