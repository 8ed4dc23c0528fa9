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

static struct ref_region *find_region(struct ref_memory *memory, uint64_t address) {
    size_t low = 0, high = memory->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memory->regions[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return NULL;
    struct ref_region *region = &memory->regions[low - 1];
    return address - region->start < region->byte_count ? region : NULL;
}

static __attribute__((noinline)) void grow(struct ref_pieces *pieces, size_t needed) {
    size_t capacity = pieces->capacity * 2 > needed ? pieces->capacity * 2 : needed;
    struct iovec *list = realloc(pieces->list, capacity * sizeof *list);
    if (!list) abort();
    pieces->list = list;
    pieces->capacity = capacity;
}

static inline void reserve(struct ref_pieces *pieces, size_t additional) {
    if (additional > pieces->capacity - pieces->count) grow(pieces, pieces->count + additional);
}

static __attribute__((noinline)) bool append_pieces(
    struct ref_queue *queue, const struct descriptor *descriptor, struct ref_pieces *pieces) {
    struct ref_memory *memory = queue->memory;
    uint64_t address = descriptor->address, left = descriptor->length;
    while (left > 0) {
        struct ref_region *region = find_region(memory, address);
        if (!region) break;
        memory->last_hit = region;
        uint64_t offset = address - region->start;
        uint64_t length = left < region->byte_count - offset ? left : region->byte_count - offset;
        reserve(pieces, 1);
        pieces->list[pieces->count++] = (struct iovec){region->base + offset, length};
        left -= length;
        address += length;
        if (left > 0 && address == 0) break;
    }
    reserve(pieces, queue->batch.count - queue->batch.position);
    return left == 0;
}

static inline bool append(
    struct ref_queue *queue, const struct descriptor *descriptor, struct ref_pieces *pieces) {
    const struct ref_region *region = queue->memory->last_hit;
    uint64_t offset = descriptor->address - region->start;
    if (offset < region->byte_count
        && (uint64_t)descriptor->length - 1 < region->byte_count - offset) {
        pieces->list[pieces->count++] = (struct iovec){region->base + offset, descriptor->length};
        return true;
    }
    return append_pieces(queue, descriptor, pieces);
}

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

static size_t split_table(
    struct ref_queue *queue, uint64_t address, uint64_t word, uint16_t head, size_t at) {
    uint32_t length = (uint32_t)word;
    const char *table = open_table(queue, address, length, (uint16_t)(word >> 32));
    if (!table) return 0;
    size_t count = length / 16, index = 0, added = 0;
    for (;;) {
        uint64_t entry_address = load64(table + 16 * index);
        uint64_t entry = load64(table + 16 * index + 8);
        uint16_t flags = (uint16_t)(entry >> 32);
        if (flags & INDIRECT) {
            queue->batch.fault = (struct fault){NESTED_INDIRECT, 0, 0};
            return 0;
        }
        queue->batch.descriptors[at + added] = (struct descriptor){
            entry_address, (uint32_t)entry, flags | INDIRECT, head};
        added++;
        if (!(flags & NEXT)) return added;
        index = (uint16_t)(entry >> 48);
        if (index >= count) {
            queue->batch.fault = (struct fault){NEXT_OUT_OF_RANGE, index, count};
            return 0;
        }
        if (added >= count) {
            queue->batch.fault = (struct fault){CHAIN_TOO_LONG, count, 0};
            return 0;
        }
    }
}

static size_t split_chain(struct ref_queue *queue, uint16_t head, size_t at) {
    struct split *ring = &queue->split;
    uint16_t index = head;
    size_t added = 0;
    for (;;) {
        uint64_t address = load64(ring->table + 16 * (size_t)index);
        uint64_t word = load64(ring->table + 16 * (size_t)index + 8);
        uint16_t flags = (uint16_t)(word >> 32);
        if (flags & INDIRECT) {
            size_t length = split_table(queue, address, word, head, at + added);
            return length ? added + length : 0;
        }
        queue->batch.descriptors[at + added] =
            (struct descriptor){address, (uint32_t)word, flags, head};
        added++;
        if (!(flags & NEXT)) return added;
        index = (uint16_t)(word >> 48);
        if (index >= ring->size) {
            queue->batch.fault = (struct fault){NEXT_OUT_OF_RANGE, index, ring->size};
            return 0;
        }
        if (added >= ring->size) {
            queue->batch.fault = (struct fault){CHAIN_TOO_LONG, ring->size, 0};
            return 0;
        }
    }
}

static inline void split_fetch(struct ref_queue *queue) {
    struct split *ring = &queue->split;
    uint16_t end = __atomic_load_n((uint16_t *)(ring->available + 2), __ATOMIC_ACQUIRE);
    uint16_t next = ring->next_available;
    if (end == next) return;
    if ((uint16_t)(end - next) > ring->size) {
        queue->batch.fault = (struct fault){AVAILABLE_INDEX_JUMP, end, next};
        return;
    }
    size_t count = 0;
    while (next != end && count < THRESHOLD) {
        uint16_t head = load16(ring->available + 4 + 2 * (size_t)(next & ring->mask));
        if (head >= ring->size) {
            queue->batch.fault = (struct fault){HEAD_OUT_OF_RANGE, head, ring->size};
            break;
        }
        uint64_t address = load64(ring->table + 16 * (size_t)head);
        uint64_t word = load64(ring->table + 16 * (size_t)head + 8);
        uint16_t flags = (uint16_t)(word >> 32);
        if (!(flags & (NEXT | INDIRECT))) {
            queue->batch.descriptors[count++] =
                (struct descriptor){address, (uint32_t)word, flags, head};
        } else {
            size_t added = split_chain(queue, head, count);
            if (added == 0) break;
            count += added;
        }
        next++;
    }
    queue->batch.count = count;
    ring->next_available = next;
}

static inline void split_put(struct split *ring, uint16_t id, uint32_t written_length) {
    uint64_t element = (uint64_t)id | (uint64_t)written_length << 32;
    memcpy(ring->used + 4 + 8 * (size_t)(ring->next_used & ring->mask), &element, 8);
    ring->next_used++;
}

static inline size_t split_publish(struct split *ring) {
    uint16_t moved = ring->next_used - ring->published_used;
    if (moved == 0) return 0;
    __atomic_store_n((uint16_t *)(ring->used + 2), ring->next_used, __ATOMIC_RELEASE);
    ring->published_used = ring->next_used;
    return moved;
}

static bool split_wants_signal(struct split *ring, size_t moved) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ring->notifies_on_empty && load16(ring->available + 2) == ring->next_available) return true;
    if (!ring->has_event_index) return !(load16(ring->available) & 1);
    uint16_t event = load16(ring->available + 4 + 2 * (size_t)ring->size);
    return moved > UINT16_MAX || (uint16_t)(ring->published_used - event - 1) < moved;
}

static bool split_request(struct split *ring) {
    if (ring->has_event_index)
        store16(ring->used + 4 + 8 * (size_t)ring->size, ring->next_available);
    else
        store16(ring->used, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return load16(ring->available + 2) != ring->next_available;
}

// Packed

static inline void advance(struct position *position, unsigned entries, unsigned size) {
    position->index += entries;
    if (position->index >= size) {
        position->index -= size;
        position->wrap = !position->wrap;
    }
}

static inline unsigned distance(struct position from, struct position to, unsigned size) {
    int difference = (int)to.index - (int)from.index + (to.wrap == from.wrap ? 0 : (int)size);
    return (unsigned)(difference < 0 ? difference + 2 * (int)size : difference);
}

static inline uint64_t available_flags(bool wrap) {
    return wrap ? (uint64_t)0x0080 << 48 : (uint64_t)0x8000 << 48;
}
#define BOTH_FLAGS ((uint64_t)0x8080 << 48)

static size_t packed_table(
    struct ref_queue *queue, uint64_t address, uint64_t word, size_t at) {
    uint32_t length = (uint32_t)word;
    uint16_t id = (uint16_t)(word >> 32);
    const char *table = open_table(queue, address, length, (uint16_t)(word >> 48));
    if (!table) return 0;
    size_t count = length / 16;
    for (size_t index = 0; index < count; index++) {
        uint64_t entry = load64(table + 16 * index + 8);
        uint16_t flags = (uint16_t)(entry >> 48);
        if (flags & INDIRECT) {
            queue->batch.fault = (struct fault){NESTED_INDIRECT, 0, 0};
            return 0;
        }
        flags = (flags & WRITE) | INDIRECT;
        if (index + 1 != count) flags |= NEXT;
        queue->batch.descriptors[at + index] =
            (struct descriptor){load64(table + 16 * index), (uint32_t)entry, flags, id};
    }
    return count;
}

static unsigned packed_chain(
    struct ref_queue *queue, unsigned index, uint64_t word, size_t at, unsigned room,
    size_t *added) {
    struct packed *ring = &queue->packed;
    unsigned entries = 0;
    for (;;) {
        uint64_t address = load64(ring->ring + 16 * (size_t)index);
        uint16_t flags = (uint16_t)(word >> 48);
        if (flags & INDIRECT) {
            size_t length = packed_table(queue, address, word, at + entries);
            if (length == 0) return 0;
            *added = entries + length;
            return entries + 1;
        }
        queue->batch.descriptors[at + entries] = (struct descriptor){
            address, (uint32_t)word, flags, (uint16_t)(word >> 32)};
        entries++;
        if (!(flags & NEXT)) {
            *added = entries;
            return entries;
        }
        if (entries >= room) {
            queue->batch.fault = (struct fault){CHAIN_TOO_LONG, room, 0};
            return 0;
        }
        index = index + 1 == ring->size ? 0 : index + 1;
        word = load64(ring->ring + 16 * (size_t)index + 8);
    }
}

static inline void packed_fetch(struct ref_queue *queue) {
    struct packed *ring = &queue->packed;
    struct position next = ring->next_available;
    unsigned room = ring->size - distance(ring->published_used, next, ring->size);
    size_t count = 0;
    while (room > 0 && count < THRESHOLD) {
        char *entry = ring->ring + 16 * (size_t)next.index;
        uint64_t word = __atomic_load_n((uint64_t *)(entry + 8), __ATOMIC_ACQUIRE);
        if ((word & BOTH_FLAGS) != available_flags(next.wrap)) break;
        uint16_t flags = (uint16_t)(word >> 48);
        unsigned entries = 1;
        if (!(flags & (NEXT | INDIRECT))) {
            queue->batch.descriptors[count++] = (struct descriptor){
                load64(entry), (uint32_t)word, flags, (uint16_t)(word >> 32)};
        } else {
            size_t added = 0;
            entries = packed_chain(queue, next.index, word, count, room, &added);
            if (entries == 0) break;
            count += added;
        }
        room -= entries;
        advance(&next, entries, ring->size);
    }
    queue->batch.count = count;
    ring->next_available = next;
}

static inline void packed_put(
    struct packed *ring, uint16_t id, unsigned entries, uint32_t written_length) {
    uint64_t flags = ring->next_used.wrap ? 0x8080 : 0;
    if (written_length != 0) flags |= WRITE;
    uint64_t word = (uint64_t)written_length | (uint64_t)id << 32 | flags << 48;
    if (ring->unpublished == 0)
        ring->first_word = word;
    else
        __atomic_store_n(
            (uint64_t *)(ring->ring + 16 * (size_t)ring->next_used.index + 8), word,
            __ATOMIC_RELAXED);
    ring->unpublished += entries;
    advance(&ring->next_used, entries, ring->size);
}

static inline size_t packed_publish(struct packed *ring) {
    size_t moved = ring->unpublished;
    if (moved == 0) return 0;
    __atomic_store_n(
        (uint64_t *)(ring->ring + 16 * (size_t)ring->published_used.index + 8), ring->first_word,
        __ATOMIC_RELEASE);
    ring->published_used = ring->next_used;
    ring->unpublished = 0;
    return moved;
}

static bool packed_wants_signal(struct packed *ring, size_t moved) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint32_t wish = load32(ring->driver_event);
    uint16_t flags = (wish >> 16) & 3;
    if (flags == 1) return false;
    if (flags != 2 || !ring->has_event_index) return true;
    struct position event = {wish & 0x7fff, (wish & 0x8000) != 0};
    if (event.index >= ring->size || moved >= ring->size) return true;
    struct position start = ring->published_used;
    int index = (int)start.index - (int)moved;
    if (index < 0) {
        index += (int)ring->size;
        start.wrap = !start.wrap;
    }
    start.index = (unsigned)index;
    return distance(start, event, ring->size) < moved;
}

static void packed_suppress(struct packed *ring) { store16(ring->device_event + 2, 1); }

static bool packed_request(struct packed *ring) {
    struct position next = ring->next_available;
    if (ring->has_event_index) {
        store16(ring->device_event, (uint16_t)(next.index | (next.wrap ? 0x8000 : 0)));
        __atomic_store_n((uint16_t *)(ring->device_event + 2), 2, __ATOMIC_RELEASE);
    } else {
        store16(ring->device_event + 2, 0);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint64_t word = load64(ring->ring + 16 * (size_t)next.index + 8);
    return distance(ring->published_used, next, ring->size) < ring->size
        && (word & BOTH_FLAGS) == available_flags(next.wrap);
}

// The buffer half

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
