// SPDX-License-Identifier: Apache-2.0

#include "CGuest.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name) (void)(name)
#endif

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct guest {
    bool is_packed;
    enum guest_shape shape;
    char *regions[GUEST_REGION_COUNT];
    char *descriptors;
    char *driver_area;
    char *device_area;
    unsigned slot;       // of the next buffer
    uint16_t available;  // split: index
    uint16_t used;       // split: index
    unsigned next;       // packed: where the next descriptor goes
    bool next_wrap;
    unsigned next_used;  // packed: where the next used descriptor is expected
    bool used_wrap;
    bool in_flight[GUEST_RING_SIZE];
};

struct piece {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
};

uint64_t guest_region_address(unsigned index) { return 0x100000000 * (uint64_t)(index + 1); }

struct guest *guest_create(bool is_packed, enum guest_shape shape, void *const *regions) {
    struct guest *guest = calloc(1, sizeof *guest);
    if (!guest) abort();
    guest->is_packed = is_packed;
    guest->shape = shape;
    for (unsigned index = 0; index < GUEST_REGION_COUNT; index++)
        guest->regions[index] = regions[index];
    memset(regions[0], 0, GUEST_REGION_SIZE);
    guest->descriptors = guest->regions[0] + GUEST_DESCRIPTORS;
    guest->driver_area = guest->regions[0] + GUEST_DRIVER_AREA;
    guest->device_area = guest->regions[0] + GUEST_DEVICE_AREA;
    guest->next_wrap = guest->used_wrap = true;
    return guest;
}

void guest_destroy(struct guest *guest) { free(guest); }

static void store(char *address, uint64_t value, size_t size) { memcpy(address, &value, size); }

static uint64_t load(const char *address, size_t size) {
    uint64_t value = 0;
    memcpy(&value, address, size);
    return value;
}

static uint32_t writable_length(const struct guest *guest) {
    return guest->shape == GUEST_ONE_DESCRIPTOR ? 2048 : 108 + 4096 + 4096;
}

/// The pieces of a buffer; one buffer in 32 lies in another region than the others.
static unsigned pieces_of(const struct guest *guest, unsigned slot, struct piece pieces[4]) {
    uint64_t base = guest_region_address(slot % 32 == 31 ? 2 : 1) + 0x10000 * (uint64_t)(slot % 32);
    if (guest->shape == GUEST_ONE_DESCRIPTOR) {
        pieces[0] = (struct piece){base, 2048, WRITE};
        return 1;
    }
    pieces[0] = (struct piece){base, 51, 0};
    pieces[1] = (struct piece){base + 0x100, 108, WRITE};
    pieces[2] = (struct piece){base + 0x1000, 4096, WRITE};
    pieces[3] = (struct piece){base + 0x3000, 4096, WRITE};
    return 4;
}

/// Writes a table; returns the one piece that refers to it.
static struct piece write_table(
    struct guest *guest, unsigned slot, const struct piece *pieces, unsigned count) {
    uint64_t offset = 0x300000 + 0x100 * (uint64_t)slot;
    for (unsigned index = 0; index < count; index++) {
        char *entry = guest->regions[1] + offset + 16 * index;
        unsigned flags = pieces[index].flags;
        store(entry, pieces[index].address, 8);
        store(entry + 8, pieces[index].length, 4);
        if (guest->is_packed) {
            store(entry + 14, flags, 2);
        } else {
            store(entry + 12, index + 1 < count ? flags | NEXT : flags, 2);
            store(entry + 14, index + 1, 2);
        }
    }
    return (struct piece){guest_region_address(1) + offset, 16 * count, INDIRECT};
}

static void offer_split(
    struct guest *guest, unsigned slot, const struct piece *pieces, unsigned count) {
    unsigned head = 4 * slot;
    for (unsigned index = 0; index < count; index++) {
        char *entry = guest->descriptors + 16 * (head + index);
        unsigned flags = pieces[index].flags;
        store(entry, pieces[index].address, 8);
        store(entry + 8, pieces[index].length, 4);
        store(entry + 12, index + 1 < count ? flags | NEXT : flags, 2);
        store(entry + 14, head + index + 1, 2);
    }
    store(guest->driver_area + 4 + 2 * (guest->available % GUEST_RING_SIZE), head, 2);
    guest->available++;
    guest->in_flight[head] = true;
}

static void offer_packed(
    struct guest *guest, unsigned slot, const struct piece *pieces, unsigned count) {
    for (unsigned index = 0; index < count; index++) {
        char *entry = guest->descriptors + 16 * guest->next;
        unsigned flags = pieces[index].flags | (guest->next_wrap ? 0x0080 : 0x8000);
        store(entry, pieces[index].address, 8);
        store(entry + 8, pieces[index].length, 4);
        store(entry + 12, slot, 2);
        store(entry + 14, index + 1 < count ? flags | NEXT : flags, 2);
        if (++guest->next == GUEST_RING_SIZE) {
            guest->next = 0;
            guest->next_wrap = !guest->next_wrap;
        }
    }
    guest->in_flight[slot] = true;
}

void guest_offer(struct guest *guest, unsigned count) {
    for (unsigned done = 0; done < count; done++) {
        unsigned slot = guest->slot++ % GUEST_BUFFER_COUNT;
        struct piece pieces[4];
        unsigned piece_count = pieces_of(guest, slot, pieces);
        if (guest->shape == GUEST_INDIRECT_TABLE_OF_FOUR) {
            pieces[0] = write_table(guest, slot, pieces, piece_count);
            piece_count = 1;
        }
        if (guest->is_packed)
            offer_packed(guest, slot, pieces, piece_count);
        else
            offer_split(guest, slot, pieces, piece_count);
    }
    if (guest->is_packed) {
        store(guest->driver_area, guest->next_used | (guest->used_wrap ? 0x8000 : 0), 2);
        store(guest->driver_area + 2, 2, 2);
    } else {
        store(guest->driver_area + 4 + 2 * GUEST_RING_SIZE, guest->used, 2);
        store(guest->driver_area + 2, guest->available, 2);
    }
}

static bool forget(struct guest *guest, uint64_t id, uint64_t length) {
    if (id >= GUEST_RING_SIZE || !guest->in_flight[id]) return false;
    guest->in_flight[id] = false;
    return length == writable_length(guest);
}

bool guest_reap(struct guest *guest, unsigned count) {
    for (unsigned done = 0; done < count; done++) {
        if (guest->is_packed) {
            const char *entry = guest->descriptors + 16 * guest->next_used;
            uint64_t flags = load(entry + 14, 2);
            if ((flags & 0x8080) != (guest->used_wrap ? 0x8080 : 0)) return false;
            if (!forget(guest, load(entry + 12, 2), load(entry + 8, 4))) return false;
            guest->next_used += guest->shape == GUEST_FOUR_DESCRIPTORS ? 4 : 1;
            if (guest->next_used >= GUEST_RING_SIZE) {
                guest->next_used -= GUEST_RING_SIZE;
                guest->used_wrap = !guest->used_wrap;
            }
        } else {
            const char *entry = guest->device_area + 4 + 8 * (guest->used % GUEST_RING_SIZE);
            if (!forget(guest, load(entry, 4), load(entry + 4, 4))) return false;
            guest->used++;
        }
    }
    return guest->is_packed || guest->used == load(guest->device_area + 2, 2);
}

uint64_t guest_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1000000000 * (uint64_t)now.tv_sec + (uint64_t)now.tv_nsec;
}

size_t guest_heap_in_use(void) {
    struct mallinfo2 information = mallinfo2();
    return information.uordblks + information.hblkhd;
}

void guest_zero_counts(void) { CALLGRIND_ZERO_STATS; }

void guest_report_counts(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
