// SPDX-License-Identifier: Apache-2.0
//
// Guest memory and pieces of it.
// Included by queue.c, so that the compiler sees one unit, as it does on our side.

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
