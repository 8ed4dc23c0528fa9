// SPDX-License-Identifier: Apache-2.0

#include "CDisk.h"

#include <endian.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
/// Where the requests stand: header, answer and table each, not all in the same lines of the cache;
/// then a page of data each.
enum { HEADERS = 0x100000, HEADER_STRIDE = 320, ANSWER = 64, TABLE = 192, DATA = 0x400000, PAGE = 4096 };
/// Bytes of struct virtio_scsi_req_cmd and its response, and where the status and the response stand.
enum { SCSI_HEADER = 51, SCSI_ANSWER = 108, SCSI_STATUS = 10, SCSI_RESPONSE = 11, SCSI_CDB = 19 };
/// Bytes of struct virtio_blk_req before the data, and of its status behind them.
enum { BLOCK_HEADER = 16, BLOCK_ANSWER = 1 };
enum { PATIENCE_MILLISECONDS = 10000 };

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

struct used {
    uint32_t id;
    uint32_t length;
};

struct disk_load {
    char *memory;
    uint64_t guest_address;
    enum disk_layout layout;
    bool writes;
    unsigned depth;
    uint64_t request_places;
    int kick, call;
    uint64_t random;
    uint16_t added, published, reaped;
    unsigned in_flight;
};

static struct descriptor *descriptors(struct disk_load *load) {
    return (struct descriptor *)(load->memory + DISK_DESCRIPTORS);
}

/// struct virtq_avail and struct virtq_used in units of 16 bits.
static uint16_t *available(struct disk_load *load) {
    return (uint16_t *)(load->memory + DISK_AVAILABLE);
}

static uint16_t *used(struct disk_load *load) { return (uint16_t *)(load->memory + DISK_USED); }

static uint16_t *used_event(struct disk_load *load) {
    return available(load) + 2 + DISK_RING_SIZE;
}

static uint16_t *available_event(struct disk_load *load) {
    return used(load) + 2 + 4 * DISK_RING_SIZE;
}

static uint16_t used_index(struct disk_load *load) {
    return __atomic_load_n(used(load) + 1, __ATOMIC_ACQUIRE);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1000000000 * (uint64_t)time.tv_sec + (uint64_t)time.tv_nsec;
}

static char *header(struct disk_load *load, unsigned slot) {
    return load->memory + HEADERS + HEADER_STRIDE * slot;
}

/// Everything of a request but the place on the disk, which is written anew each time.
static void lay_out(struct disk_load *load, unsigned slot) {
    uint64_t page = load->guest_address + HEADERS + HEADER_STRIDE * (uint64_t)slot;
    uint64_t data = load->guest_address + DATA + PAGE * (uint64_t)slot;
    bool is_scsi = load->layout == DISK_SCSI;
    uint32_t header_size = is_scsi ? SCSI_HEADER : BLOCK_HEADER;
    uint32_t answer_size = is_scsi ? SCSI_ANSWER : BLOCK_ANSWER;
    struct descriptor *table = (struct descriptor *)(header(load, slot) + TABLE);
    struct descriptor answer = {page + ANSWER, answer_size, WRITE, 0};
    struct descriptor bytes = {data, DISK_REQUEST_SIZE, load->writes ? 0 : WRITE, 0};
    table[0] = (struct descriptor){page, header_size, NEXT, 1};
    // virtio-scsi answers before the data that it returns, virtio-blk behind them.
    bool answers_first = is_scsi && !load->writes;
    table[1] = answers_first ? answer : bytes;
    table[2] = answers_first ? bytes : answer;
    table[1].flags |= NEXT;
    table[1].next = 2;
    descriptors(load)[slot] =
        (struct descriptor){page + TABLE, 3 * sizeof *table, INDIRECT, 0};
    char *request = header(load, slot);
    if (is_scsi) {
        request[0] = 1;           // target 0
        request[2] = 0x40;        // LUN 0
        uint64_t tag = slot + 1;  // unique
        memcpy(request + 8, &tag, sizeof tag);
        request[SCSI_CDB] = (char)(load->writes ? 0x8A : 0x88);  // WRITE(16), READ(16)
        request[SCSI_CDB + 13] = DISK_REQUEST_SIZE / 512;
    } else {
        request[0] = load->writes;  // VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_IN
    }
}

struct disk_load *disk_load_create(
    int memory_descriptor, uint64_t guest_address, enum disk_layout layout, bool writes,
    unsigned depth, uint64_t disk_size, int kick, int call) {
    if (depth == 0 || depth > DISK_RING_SIZE || disk_size < DISK_REQUEST_SIZE) return NULL;
    void *memory = mmap(
        NULL, DISK_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_descriptor, 0);
    struct disk_load *load = calloc(1, sizeof *load);
    if (memory == MAP_FAILED || !load) return NULL;
    *load = (struct disk_load){
        .memory = memory, .guest_address = guest_address, .layout = layout, .writes = writes,
        .depth = depth, .request_places = disk_size / DISK_REQUEST_SIZE, .kick = kick, .call = call,
        .random = 0x9E3779B97F4A7C15,
    };
    memset(memory, 0, DISK_MEMORY_SIZE);
    for (unsigned slot = 0; slot < depth; slot++) lay_out(load, slot);
    return load;
}

static uint64_t random_place(struct disk_load *load) {
    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    return load->random % load->request_places * (DISK_REQUEST_SIZE / 512);
}

static void offer(struct disk_load *load, unsigned slot) {
    uint64_t block = random_place(load);
    char *request = header(load, slot);
    if (load->layout == DISK_SCSI) {
        uint64_t address = htobe64(block);
        memcpy(request + SCSI_CDB + 2, &address, sizeof address);
        request[ANSWER + SCSI_STATUS] = request[ANSWER + SCSI_RESPONSE] = (char)0xFF;
    } else {
        memcpy(request + 8, &block, sizeof block);
        request[ANSWER] = (char)0xFF;
    }
    available(load)[2 + load->added % DISK_RING_SIZE] = (uint16_t)slot;
    load->added++;
    load->in_flight++;
}

/// Shows what was offered to the device, and notifies it when it wants to be (virtio 1.3 §2.7.10.1).
static void publish(struct disk_load *load, struct disk_result *result) {
    uint16_t before = load->published;
    if (before == load->added) return;
    load->published = load->added;
    __atomic_store_n(available(load) + 1, load->added, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t event = __atomic_load_n(available_event(load), __ATOMIC_ACQUIRE);
    if ((uint16_t)(load->added - event - 1) >= (uint16_t)(load->added - before)) return;
    uint64_t one = 1;
    result->kick_count++;
    if (write(load->kick, &one, sizeof one) != sizeof one) abort();
}

static bool has_failed(struct disk_load *load, unsigned slot) {
    const char *answer = header(load, slot) + ANSWER;
    if (load->layout == DISK_BLOCK) return answer[0] != 0;
    return answer[SCSI_STATUS] != 0 || answer[SCSI_RESPONSE] != 0;
}

/// Takes back what has ended, and offers it again while the run lasts. Returns how many, or -1.
static int reap(struct disk_load *load, bool goes_on, struct disk_result *result) {
    uint16_t end = used_index(load);
    int count = (uint16_t)(end - load->reaped);
    if ((unsigned)count > load->in_flight) return -1;
    const struct used *ring = (const struct used *)(used(load) + 2);
    for (; load->reaped != end; load->reaped++) {
        unsigned slot = ring[load->reaped % DISK_RING_SIZE].id;
        if (slot >= load->depth) return -1;
        load->in_flight--;
        result->request_count++;
        if (has_failed(load, slot)) result->failure_count++;
        if (goes_on) offer(load, slot);
    }
    return count;
}

/// Asks to be called for the next used buffer, and sleeps until then. Returns false when no call came.
static bool sleep_until_called(struct disk_load *load, struct disk_result *result) {
    __atomic_store_n(used_event(load), load->reaped, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (used_index(load) != load->reaped) return true;
    struct pollfd wanted = {.fd = load->call, .events = POLLIN};
    if (poll(&wanted, 1, PATIENCE_MILLISECONDS) != 1) return false;
    uint64_t value;
    if (read(load->call, &value, sizeof value) == sizeof value) result->call_count++;
    return true;
}

static bool wait(struct disk_load *load, bool polls, struct disk_result *result) {
    if (!polls) return sleep_until_called(load, result);
    uint64_t end = now() + (uint64_t)PATIENCE_MILLISECONDS * 1000000;
    while (used_index(load) == load->reaped) {
        __builtin_ia32_pause();
        if (now() > end) return false;
    }
    return true;
}

bool disk_load_run(
    struct disk_load *load, uint64_t nanoseconds, bool polls, struct disk_result *result) {
    *result = (struct disk_result){0};
    uint64_t start = now(), time = start;
    // As far away as an index can be: nobody has to call a driver that polls.
    if (polls) __atomic_store_n(used_event(load), load->reaped - 1, __ATOMIC_RELEASE);
    for (unsigned slot = 0; slot < load->depth; slot++) offer(load, slot);
    publish(load, result);
    while (load->in_flight > 0) {
        int count = reap(load, time - start < nanoseconds, result);
        if (count < 0) return false;
        publish(load, result);
        if (count == 0 && !wait(load, polls, result)) return false;
        time = now();
        if (polls) __atomic_store_n(used_event(load), load->reaped - 1, __ATOMIC_RELEASE);
    }
    result->nanoseconds = time - start;
    return true;
}
