// SPDX-License-Identifier: Apache-2.0
//
// The driver's side of the storage benchmark: a split ring with indirect descriptors and event
// indices, full of requests of 4 KiB as virtio-scsi or as virtio-blk lays them out.
#ifndef CDISK_H
#define CDISK_H

#include <stdbool.h>
#include <stdint.h>

/// Entries of the ring: one a request.
enum { DISK_RING_SIZE = 256, DISK_REQUEST_SIZE = 4096 };
/// Bytes of guest memory, and where the parts of the ring stand in it.
enum {
    DISK_MEMORY_SIZE = 16 << 20,
    DISK_DESCRIPTORS = 0,
    DISK_AVAILABLE = 0x10000,
    DISK_USED = 0x20000,
};

/// How a request is laid out.
enum disk_layout { DISK_SCSI, DISK_BLOCK };

struct disk_load;

/// What a run did.
struct disk_result {
    uint64_t request_count;
    uint64_t failure_count;
    /// How often the driver notified, and how often it was woken.
    uint64_t kick_count;
    uint64_t call_count;
    uint64_t nanoseconds;
};

/// Maps the memory that `memory_descriptor` names, and lays out an empty ring in it.
///
/// `guest_address` is where the memory stands for the device. Returns NULL when it cannot be mapped.
struct disk_load *disk_load_create(
    int memory_descriptor, uint64_t guest_address, enum disk_layout layout, bool writes,
    unsigned depth, uint64_t disk_size, int kick, int call);

/// Keeps `depth` requests at random places of the disk under way for so long, then waits for the last.
///
/// Sleeps until it is called when nothing has ended, unless it `polls`. Returns false when the
/// device has not answered for ten seconds, or has answered what it was not asked.
bool disk_load_run(
    struct disk_load *load, uint64_t nanoseconds, bool polls, struct disk_result *result);

#endif
