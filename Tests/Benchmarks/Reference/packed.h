// SPDX-License-Identifier: Apache-2.0
//
// The packed ring (virtio 1.3 §2.8), device side.
// Included by queue.c, so that the compiler sees one unit, as it does on our side.

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
