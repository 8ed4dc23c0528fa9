// SPDX-License-Identifier: Apache-2.0
//
// The split ring (virtio 1.3 §2.7), device side.
// Included by queue.c, so that the compiler sees one unit, as it does on our side.

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
