// SPDX-License-Identifier: Apache-2.0

#include "queue.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { THRESHOLD = 64 };

enum error {
    NO_ERROR,
    AVAILABLE_INDEX_JUMP,
    HEAD_OUT_OF_RANGE,
    NEXT_OUT_OF_RANGE,
    CHAIN_TOO_LONG,
    OUTSIDE_MEMORY,
    READABLE_AFTER_WRITABLE,
    TOO_LONG,
    ALREADY_TAKEN,
    INDIRECT_NOT_NEGOTIATED,
    INDIRECT_WITH_NEXT,
    NESTED_INDIRECT,
    INDIRECT_LENGTH,
};

/// An error and what goes with it.
struct fault {
    enum error error;
    uint64_t value;
    uint64_t limit;
};

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t id;
};

struct outstanding {
    uint32_t writable_length;
    uint16_t entries;
    uint16_t previous;
};

struct split {
    char *table;
    char *available;
    char *used;
    unsigned size;
    uint16_t mask;
    bool has_event_index;
    bool notifies_on_empty;
    uint16_t next_available;
    uint16_t next_used;
    uint16_t published_used;
};

struct position {
    unsigned index;
    bool wrap;
};

struct packed {
    char *ring;
    char *driver_event;
    char *device_event;
    unsigned size;
    bool has_event_index;
    struct position next_available;
    struct position next_used;
    struct position published_used;
    uint64_t first_word;
    unsigned unpublished;
};

struct ref_queue {
    bool is_packed;
    union {
        struct split split;
        struct packed packed;
    };
    unsigned indirect_limit;
    bool has_indirect;
    struct {
        struct descriptor *descriptors;
        size_t position;
        size_t count;
        struct fault fault;
    } batch;
    struct ref_memory *memory;
    struct outstanding *outstanding;
    size_t outstanding_count;
    uint16_t last_taken;
    struct fault breakage;
    size_t unsignalled;
    bool ever_published;
    bool is_attached;
    bool needs_care;
    void (*notify)(void *);
    void *context;
};

// Guest memory

static inline uint16_t load16(const char *address) {
    return __atomic_load_n((const uint16_t *)address, __ATOMIC_RELAXED);
}
static inline uint32_t load32(const char *address) {
    return __atomic_load_n((const uint32_t *)address, __ATOMIC_RELAXED);
}
static inline uint64_t load64(const char *address) {
    return __atomic_load_n((const uint64_t *)address, __ATOMIC_RELAXED);
}
static inline void store16(char *address, uint16_t value) {
    __atomic_store_n((uint16_t *)address, value, __ATOMIC_RELAXED);
}

#include "pieces.h"

static const char *open_table(
    struct ref_queue *queue, uint64_t address, uint32_t length, uint16_t flags) {
    struct fault *fault = &queue->batch.fault;
    if (!queue->has_indirect) {
        *fault = (struct fault){INDIRECT_NOT_NEGOTIATED, 0, 0};
        return NULL;
    }
    if (flags & NEXT) {
        *fault = (struct fault){INDIRECT_WITH_NEXT, 0, 0};
        return NULL;
    }
    if (length == 0 || length % 16 != 0 || length > 16 * queue->indirect_limit) {
        *fault = (struct fault){INDIRECT_LENGTH, length, queue->indirect_limit};
        return NULL;
    }
    struct ref_region *region = queue->memory->last_hit;
    uint64_t offset = address - region->start;
    if (!(offset < region->byte_count && length <= region->byte_count - offset)) {
        region = find_region(queue->memory, address);
        if (region) {
            queue->memory->last_hit = region;
            offset = address - region->start;
        }
        if (!region || length > region->byte_count - offset) {
            *fault = (struct fault){OUTSIDE_MEMORY, address, length};
            return NULL;
        }
    }
    if (address % 8 != 0) {
        *fault = (struct fault){OUTSIDE_MEMORY, address, length};
        return NULL;
    }
    return region->base + offset;
}

// Split

#include "split.h"
#include "packed.h"

static __attribute__((noinline)) int refill(struct ref_queue *queue, bool is_packed) {
    if (queue->breakage.error) return -1;
    if (!queue->is_attached) return 0;
    if (!queue->batch.fault.error) {
        queue->batch.position = 0;
        queue->batch.count = 0;
        if (is_packed)
            packed_fetch(queue);
        else
            split_fetch(queue);
        if (queue->batch.count > 0) return 1;
    }
    if (queue->batch.fault.error) {
        queue->breakage = queue->batch.fault;
        return -1;
    }
    return 0;
}

static __attribute__((noinline)) int failed(
    struct ref_queue *queue, struct fault fault, struct ref_pieces *pieces, size_t first_piece) {
    pieces->count = first_piece;
    queue->batch.position = queue->batch.count = 0;
    queue->breakage = fault;
    return -1;
}

static __attribute__((noinline)) void take_care(struct ref_queue *queue, uint16_t id) {
    (void)queue;
    (void)id;
    abort();
}

static __attribute__((noinline)) size_t entries_of_table(const struct ref_queue *queue, size_t end) {
    size_t entries = 1;
    for (size_t index = queue->batch.position; index < end; index++)
        if (!(queue->batch.descriptors[index].flags & INDIRECT)) entries++;
    return entries;
}

static inline __attribute__((always_inline)) int take(
    struct ref_queue *queue, struct ref_pieces *pieces, struct ref_buffer *buffer, bool is_packed) {
    if (queue->batch.position == queue->batch.count) {
        int result = refill(queue, is_packed);
        if (result <= 0) return result;
    }
    reserve(pieces, queue->batch.count - queue->batch.position);
    size_t first_piece = pieces->count;
    size_t index = queue->batch.position;
    const struct descriptor *descriptors = queue->batch.descriptors;
    struct descriptor descriptor = descriptors[index];
    uint64_t readable = 0, writable = 0;
    while (!(descriptor.flags & WRITE)) {
        if (!append(queue, &descriptor, pieces))
            return failed(
                queue, (struct fault){OUTSIDE_MEMORY, descriptor.address, descriptor.length},
                pieces, first_piece);
        readable += descriptor.length;
        index++;
        if (!(descriptor.flags & NEXT)) break;
        descriptor = descriptors[index];
    }
    size_t readable_pieces = pieces->count - first_piece;
    if (descriptor.flags & WRITE) {
        for (;;) {
            if (!(descriptor.flags & WRITE))
                return failed(
                    queue, (struct fault){READABLE_AFTER_WRITABLE, descriptor.id, 0}, pieces,
                    first_piece);
            if (!append(queue, &descriptor, pieces))
                return failed(
                    queue, (struct fault){OUTSIDE_MEMORY, descriptor.address, descriptor.length},
                    pieces, first_piece);
            writable += descriptor.length;
            index++;
            if (!(descriptor.flags & NEXT)) break;
            descriptor = descriptors[index];
        }
    }
    size_t entries = descriptor.flags & INDIRECT ? entries_of_table(queue, index)
                                                 : index - queue->batch.position;
    uint64_t total = readable + writable;
    struct outstanding *outstanding = &queue->outstanding[descriptor.id];
    if (total > (uint64_t)1 << 32 || outstanding->entries != 0)
        return failed(
            queue,
            (struct fault){
                total > (uint64_t)1 << 32 ? TOO_LONG : ALREADY_TAKEN, descriptor.id, total},
            pieces, first_piece);
    *outstanding = (struct outstanding){
        writable > UINT32_MAX ? UINT32_MAX : (uint32_t)writable, (uint16_t)entries,
        queue->last_taken};
    queue->last_taken = descriptor.id;
    queue->outstanding_count++;
    if (queue->needs_care || queue->memory->dirty_log) take_care(queue, descriptor.id);
    queue->batch.position = index;
    *buffer = (struct ref_buffer){
        .id = descriptor.id,
        .descriptor_count = (uint16_t)entries,
        .first_piece = (uint32_t)first_piece,
        .readable_piece_count = (uint32_t)readable_pieces,
        .writable_piece_count = (uint32_t)(pieces->count - first_piece - readable_pieces),
        .readable_length = readable,
        .writable_length = writable,
    };
    return 1;
}

int ref_take(
    struct ref_queue *queue, struct ref_pieces *pieces, struct ref_buffer *buffer) {
    return queue->is_packed ? take(queue, pieces, buffer, true)
                            : take(queue, pieces, buffer, false);
}

void ref_put(struct ref_queue *queue, struct ref_used used) {
    struct outstanding *outstanding = &queue->outstanding[used.id];
    unsigned entries = outstanding->entries;
    if (entries == 0 || used.written_length > outstanding->writable_length) abort();
    *outstanding = (struct outstanding){0};
    queue->outstanding_count--;
    if (queue->needs_care || queue->memory->dirty_log) take_care(queue, used.id);
    if (queue->is_packed)
        packed_put(&queue->packed, used.id, entries, used.written_length);
    else
        split_put(&queue->split, used.id, used.written_length);
}

void ref_flush(struct ref_queue *queue) {
    if (queue->needs_care || queue->memory->dirty_log) take_care(queue, 0);
    size_t moved =
        queue->is_packed ? packed_publish(&queue->packed) : split_publish(&queue->split);
    queue->unsignalled += moved;
    if (moved) queue->ever_published = true;
}

void ref_signal(struct ref_queue *queue) {
    size_t moved = queue->unsignalled;
    if (moved == 0 || !queue->is_attached) return;
    queue->unsignalled = 0;
    bool wanted = queue->is_packed ? packed_wants_signal(&queue->packed, moved)
                                   : split_wants_signal(&queue->split, moved);
    if (wanted && queue->notify) queue->notify(queue->context);
}

void ref_suppress_notifications(struct ref_queue *queue) {
    if (!queue->is_attached) return;
    if (queue->is_packed)
        packed_suppress(&queue->packed);
    else if (!queue->split.has_event_index)
        store16(queue->split.used, 1);
    if (queue->memory->dirty_log) take_care(queue, 0);
}

bool ref_request_notifications(struct ref_queue *queue) {
    if (!queue->is_attached || queue->breakage.error) return false;
    if (queue->batch.position != queue->batch.count || queue->batch.fault.error) return true;
    bool more = queue->is_packed ? packed_request(&queue->packed) : split_request(&queue->split);
    if (queue->memory->dirty_log) take_care(queue, 0);
    return more;
}

struct ref_queue *ref_queue_create(
    const struct ref_configuration *configuration, struct ref_memory *memory,
    void (*notify)(void *), void *context) {
    struct ref_queue *queue = calloc(1, sizeof *queue);
    if (!queue) abort();
    unsigned size = configuration->size;
    queue->is_packed = configuration->is_packed;
    if (queue->is_packed) {
        struct packed *ring = &queue->packed;
        ring->ring = configuration->descriptor_area;
        ring->driver_event = configuration->driver_area;
        ring->device_event = configuration->device_area;
        ring->size = size;
        ring->has_event_index = configuration->has_event_index;
        ring->next_available.wrap = ring->next_used.wrap = ring->published_used.wrap = true;
    } else {
        struct split *ring = &queue->split;
        ring->table = configuration->descriptor_area;
        ring->available = configuration->driver_area;
        ring->used = configuration->device_area;
        ring->size = size;
        ring->mask = (uint16_t)(size - 1);
        ring->has_event_index = configuration->has_event_index;
    }
    queue->has_indirect = configuration->has_indirect;
    queue->indirect_limit = (size > 1024 ? size : 1024) + 2;
    queue->batch.descriptors =
        calloc(THRESHOLD + size + queue->indirect_limit, sizeof *queue->batch.descriptors);
    queue->outstanding = calloc(65536, sizeof *queue->outstanding);
    if (!queue->batch.descriptors || !queue->outstanding) abort();
    queue->memory = memory;
    queue->is_attached = true;
    queue->notify = notify;
    queue->context = context;
    return queue;
}

void ref_queue_destroy(struct ref_queue *queue) {
    free(queue->batch.descriptors);
    free(queue->outstanding);
    free(queue);
}
