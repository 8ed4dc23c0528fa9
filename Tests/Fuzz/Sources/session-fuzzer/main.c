// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

/// Makes the linker take the fuzzer's module; nobody calls it.
int (*const session_fuzzer)(const uint8_t *, size_t) = LLVMFuzzerTestOneInput;

/// What a weak reference leaves beside its object is pointed to in a way that the leak detector cannot follow.
const char *__lsan_default_suppressions(void) { return "leak:formWeakReference\n"; }
