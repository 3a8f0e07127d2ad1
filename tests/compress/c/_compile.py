"""Compiles generated C with all warnings and sanitizers, and runs it on a batch of inputs."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from pyro_vd.compress import to_c

COMPILER = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler on the path: gcc, clang or cc")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MAIN = """
#include "network.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) { /* each array is its own block, so that the sanitizer sees a read or a write beyond its end */
    float *input = malloc(NETWORK_INPUTS * sizeof(float)), *output = malloc(NETWORK_OUTPUTS * sizeof(float));
    float *scratch = malloc(NETWORK_SCRATCH * sizeof(float));
    while (fread(input, sizeof(float), NETWORK_INPUTS, stdin) == NETWORK_INPUTS) {
        memset(scratch, 255, NETWORK_SCRATCH * sizeof(float)); /* NaN */
        memset(output, 255, NETWORK_OUTPUTS * sizeof(float));
        network_run(input, output, scratch);
        fwrite(output, sizeof(float), NETWORK_OUTPUTS, stdout);
    }
    free(input);
    free(output);
    free(scratch);
    return 0;
}
"""


def compile_c(folder, *files, flags=SANITIZED):
    """The path of the program of these C files of the folder."""
    program = folder / f"{files[0]}.program"
    command = [COMPILER, *STRICT, *flags, *(str(folder / file) for file in files), "-o", str(program), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def run_c(net, inputs, folder, flags=SANITIZED, **options):
    """Outputs of the network's C program for each of the inputs, (batch, outputs), and what to_c returned."""
    written = to_c(net, inputs[: max(2, min(len(inputs), 8))], folder / "network.c", **options)
    (folder / "main.c").write_text(MAIN)
    program = compile_c(folder, "network.c", "main.c", flags=flags)
    given = inputs.numpy().astype(np.float32).tobytes()
    done = subprocess.run([program], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return torch.from_numpy(np.frombuffer(done.stdout, np.float32).copy()).view(len(inputs), -1), written


@torch.no_grad()
def assert_equal_outputs(net, inputs, folder, tolerance=1e-5, **options):
    """The C program's outputs are the network's; the tolerance is relative to the largest output."""
    made, written = run_c(net, inputs, folder, **options)
    expected = net(inputs).flatten(1)
    assert made.shape == expected.shape
    assert (made - expected).abs().max() <= tolerance * expected.abs().max()
    return written
