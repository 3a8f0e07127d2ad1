/* $network as C, written by pyro_vd: sparse tables, weights in $values.
 *
 *     #include "$stem.h"
 *
 *     static float scratch[${upper}_SCRATCH];
 *     float output[${upper}_OUTPUTS];
 *     ${prefix}_run(input, output, scratch);
 *
 * input:   one input of shape $shape, the last axis fastest; finite numbers
 * output:  its outputs
 * scratch: memory for intermediate results; what it holds before and after the call does not matter
 *
 * The three must not overlap. The function writes to output and scratch only and allocates no memory: threads may call
 * it at the same time, each with an output and a scratch of its own. The constants take $tables bytes.
 *
 * The source contains a self test: one input and the outputs that PyTorch computes.
 *
 *     cc -std=c99 -O3 -D${upper}_SELF_TEST $stem.c -o self_test -lm && ./self_test
 *
 * It prints the largest difference, and returns 0 if it is at most $tolerance of the largest output.
 */
#ifndef ${upper}_H
#define ${upper}_H

#define ${upper}_INPUTS $inputs
#define ${upper}_OUTPUTS $outputs
#define ${upper}_SCRATCH $scratch /* floats */

#ifdef __cplusplus
extern "C" {
#endif

void ${prefix}_run(const float *input, float *output, float *scratch);

#ifdef __cplusplus
}
#endif

#endif
