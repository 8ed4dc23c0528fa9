// SPDX-License-Identifier: Apache-2.0
//
// The driver's side of the ring benchmark, which is not measured, and the way to the instruments.
#ifndef CGUEST_H
#define CGUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// What a buffer looks like.
enum guest_shape {
    /// One descriptor, writable.
    GUEST_ONE_DESCRIPTOR,
    /// A chain of four: one readable, three writable.
    GUEST_FOUR_DESCRIPTORS,
    /// The same four in an indirect table.
    GUEST_INDIRECT_TABLE_OF_FOUR,
};

/// Entries of the ring, and buffers of four that fit.
enum { GUEST_RING_SIZE = 256, GUEST_BUFFER_COUNT = 64 };
/// Regions of guest memory, and what they are for.
enum { GUEST_REGION_COUNT = 4, GUEST_REGION_SIZE = 4 << 20 };

/// Where things stand in the first region.
enum { GUEST_DESCRIPTORS = 0, GUEST_DRIVER_AREA = 0x10000, GUEST_DEVICE_AREA = 0x20000 };

struct guest;

/// The guest address of a region.
uint64_t guest_region_address(unsigned index);

/// Lays out a ring; `regions` are where the regions are mapped.
struct guest *guest_create(bool is_packed, enum guest_shape shape, void *const *regions);
void guest_destroy(struct guest *guest);

/// Makes `count` buffers available, at most 64, the ring being empty.
void guest_offer(struct guest *guest, unsigned count);

/// Takes back `count` used buffers. Returns false when they are not what they should be.
bool guest_reap(struct guest *guest, unsigned count);

/// Nanoseconds, for differences.
uint64_t guest_now(void);
/// Bytes of the heap in use.
size_t guest_heap_in_use(void);
/// Forgets what callgrind has counted, and reports it under a name. Nothing outside callgrind.
void guest_zero_counts(void);
void guest_report_counts(const char *name);

#endif
