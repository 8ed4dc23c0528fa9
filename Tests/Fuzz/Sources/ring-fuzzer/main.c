// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

/// Makes the linker take the fuzzer's module; nobody calls it.
int (*const ring_fuzzer)(const uint8_t *, size_t) = LLVMFuzzerTestOneInput;
