// SPDX-License-Identifier: Apache-2.0
//
// A virtqueue, device side, in C: the yardstick of the ring benchmark. It does what the Virtio module
// does, check by check and in the same steps, as plain C would do it.
#ifndef REFERENCE_QUEUE_H
#define REFERENCE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct ref_queue;

struct ref_region {
    uint64_t start;
    uint64_t byte_count;
    char *base;
};

struct ref_memory {
    struct ref_region *regions;
    size_t count;
    struct ref_region *last_hit;
    void *dirty_log;
};

struct ref_configuration {
    bool is_packed;
    bool has_event_index;
    bool has_indirect;
    unsigned size;
    void *descriptor_area;
    void *driver_area;
    void *device_area;
};

struct ref_pieces {
    struct iovec *list;
    size_t capacity;
    size_t count;
};

struct ref_buffer {
    uint16_t id;
    uint16_t descriptor_count;
    uint32_t first_piece;
    uint32_t readable_piece_count;
    uint32_t writable_piece_count;
    uint64_t readable_length;
    uint64_t writable_length;
};

struct ref_used {
    uint16_t id;
    uint32_t written_length;
};

struct ref_queue *ref_queue_create(
    const struct ref_configuration *configuration, struct ref_memory *memory,
    void (*notify)(void *), void *context);
void ref_queue_destroy(struct ref_queue *queue);

/// Takes the next buffer: 1, 0 when there is none, -1 when the queue is broken.
int ref_take(struct ref_queue *queue, struct ref_pieces *pieces, struct ref_buffer *buffer);
void ref_put(struct ref_queue *queue, struct ref_used used);
void ref_flush(struct ref_queue *queue);
void ref_signal(struct ref_queue *queue);
void ref_suppress_notifications(struct ref_queue *queue);
bool ref_request_notifications(struct ref_queue *queue);

/// Serves everything that is available; the loop that is measured. Returns how many buffers there were, and
/// adds their lengths to `*sum`.
size_t ref_process(struct ref_queue *queue, struct ref_pieces *pieces, uint64_t *sum);

#endif
