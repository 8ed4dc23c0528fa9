// SPDX-License-Identifier: Apache-2.0
//
// What both ends of a transfer share, and the process that only copies.
#ifndef TRANSFER_H
#define TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern char data[65536];

double now(void);
void write_all(int fd, uint64_t total, size_t size);
void read_all(int fd, uint64_t total, size_t size);

// Copies between two socket pairs and prints the seconds, and the copier's processor seconds.
void relay(bool is_in, size_t size, uint64_t total, size_t buffer);

#endif
