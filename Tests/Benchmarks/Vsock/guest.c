// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { GET_FEATURES = 1, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_ADDR,
       SET_VRING_BASE, SET_VRING_KICK = 12, SET_VRING_CALL, GET_PROTOCOL_FEATURES = 15, SET_PROTOCOL_FEATURES,
       SET_VRING_ENABLE = 18 };

static int session;

void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "unexpected");
    exit(1);
}

static void tell(uint32_t request, const void *payload, uint32_t size, int descriptor) {
    char message[256];
    uint32_t head[3] = {request, 1, size};
    memcpy(message, head, 12);
    memcpy(message + 12, payload, size);
    struct iovec piece = {message, 12 + size};
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control;
    struct msghdr out = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptor >= 0) {
        out.msg_control = &control;
        out.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&out);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &descriptor, sizeof(int));
    }
    if (sendmsg(session, &out, 0) != (ssize_t)(12 + size)) fail("vhost-user");
}

static uint64_t ask(uint32_t request) {
    tell(request, "", 0, -1);
    struct { uint32_t head[3]; uint64_t value; } __attribute__((packed)) reply;
    if (recv(session, &reply, sizeof reply, MSG_WAITALL) != sizeof reply) fail("vhost-user reply");
    return reply.value;
}

static void set_up(struct ring *ring, uint32_t index, char *memory, size_t *offset, size_t buffer_size) {
    size_t start = *offset;
    ring->descriptors = (void *)(memory + start);
    ring->available = (void *)(memory + start + 4096);
    ring->used = (void *)(memory + start + 8192);
    ring->used_entries = (void *)(ring->used + 2);
    ring->buffer_size = (buffer_size + 63) & ~(size_t)63;
    ring->buffers = memory + start + 16384;
    *offset = (start + 16384 + RING_SIZE * ring->buffer_size + 4095) & ~(size_t)4095;
    for (int slot = 0; slot < RING_SIZE; slot++)
        ring->descriptors[slot] = (struct descriptor){
            (uint64_t)(ring->buffers + slot * ring->buffer_size), buffer_size, index == 0 ? 2 : 0, 0};
    ring->kick = eventfd(0, EFD_NONBLOCK);
    ring->call = eventfd(0, EFD_NONBLOCK);
    uint32_t number[2] = {index, RING_SIZE}, base[2] = {index, 0}, enable[2] = {index, 1};
    uint64_t which = index;
    struct { uint32_t index, flags; uint64_t descriptors, used, available, log; } areas = {
        index, 0, (uint64_t)ring->descriptors, (uint64_t)ring->used, (uint64_t)ring->available, 0};
    tell(SET_VRING_NUM, number, 8, -1);
    tell(SET_VRING_BASE, base, 8, -1);
    tell(SET_VRING_ADDR, &areas, sizeof areas, -1);
    tell(SET_VRING_CALL, &which, 8, ring->call);
    tell(SET_VRING_KICK, &which, 8, ring->kick);
    tell(SET_VRING_ENABLE, enable, 8, -1);
}

void guest_start(struct guest *guest, const char *socket_path, size_t payload) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    session = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(session, (void *)&address, sizeof address) != 0) fail(socket_path);

    size_t buffer = HEADER_SIZE + payload, size = 2 * (65536 + RING_SIZE * (buffer + 64));
    int file = memfd_create("guest", 0);
    if (ftruncate(file, size) != 0) fail("memfd");
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) fail("mmap");
    memset(memory, 0, size);

    uint64_t features = ask(GET_FEATURES);
    tell(SET_OWNER, "", 0, -1);
    uint64_t protocol = ask(GET_PROTOCOL_FEATURES) & 0;
    tell(SET_PROTOCOL_FEATURES, &protocol, 8, -1);
    features &= 1ULL << 32 | 1ULL << 30;
    tell(SET_FEATURES, &features, 8, -1);
    struct { uint32_t count, padding; uint64_t guest, bytes, front_end, offset; } table = {
        1, 0, (uint64_t)memory, size, (uint64_t)memory, 0};
    tell(SET_MEM_TABLE, &table, sizeof table, file);
    size_t offset = 0;
    memset(guest, 0, sizeof *guest);
    set_up(&guest->receive, 0, memory, &offset, buffer);
    set_up(&guest->transmit, 1, memory, &offset, buffer);
    guest->free_transmit = RING_SIZE;
    // Every message has been seen once this is answered.
    ask(GET_FEATURES);
    for (int slot = 0; slot < RING_SIZE; slot++) guest->receive.available[2 + slot] = slot;
    guest->queued_receive = RING_SIZE;
    guest_post(guest);
}

static void publish(struct ring *ring, uint16_t count) {
    ring->available_index += count;
    __atomic_store_n(&ring->available[1], ring->available_index, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    // VRING_USED_F_NO_NOTIFY
    if (ring->used[0] & 1) return;
    ring->kicks++;
    if (eventfd_write(ring->kick, 1) != 0) fail("kick");
}

void guest_send(struct guest *guest, struct stream *stream, uint16_t operation, uint32_t flags, uint32_t length) {
    struct ring *ring = &guest->transmit;
    if (guest->free_transmit == 0) fail("transmit ring full");
    uint16_t slot = (uint16_t)(ring->available_index + guest->queued) % RING_SIZE;
    struct header *header = (void *)(ring->buffers + slot * ring->buffer_size);
    *header = (struct header){
        .source_cid = GUEST_CID, .destination_cid = 2, .source_port = stream->guest_port,
        .destination_port = stream->host_port, .length = length, .type = 1, .operation = operation,
        .flags = flags, .buffer_allocation = CREDIT, .forward_count = stream->received};
    stream->reported = stream->received;
    stream->sent += length;
    ring->descriptors[slot].length = HEADER_SIZE + length;
    ring->available[2 + slot] = slot;
    guest->queued++;
    guest->free_transmit--;
}

void guest_publish(struct guest *guest) {
    if (guest->queued == 0) return;
    publish(&guest->transmit, guest->queued);
    guest->queued = 0;
}

unsigned guest_reap(struct guest *guest) {
    struct ring *ring = &guest->transmit;
    uint16_t used = __atomic_load_n(&ring->used[1], __ATOMIC_ACQUIRE);
    guest->free_transmit += (uint16_t)(used - ring->used_index);
    ring->used_index = used;
    return guest->free_transmit;
}

struct header *guest_receive(struct guest *guest) {
    struct ring *ring = &guest->receive;
    uint16_t used = __atomic_load_n(&ring->used[1], __ATOMIC_ACQUIRE);
    if (used == ring->used_index) return NULL;
    struct used_entry entry = {ring->used_entries[ring->used_index % RING_SIZE].id,
                               ring->used_entries[ring->used_index % RING_SIZE].length};
    ring->used_index++;
    if (entry.id >= RING_SIZE) fail("used id");
    struct header *header = (void *)(ring->buffers + entry.id * ring->buffer_size);
    if (entry.length != HEADER_SIZE + header->length || entry.length > ring->descriptors[entry.id].length)
        fail("used length");
    ring->available[2 + (uint16_t)(ring->available_index + guest->queued_receive) % RING_SIZE] = entry.id;
    guest->queued_receive++;
    return header;
}

void guest_post(struct guest *guest) {
    if (guest->queued_receive == 0) return;
    publish(&guest->receive, guest->queued_receive);
    guest->queued_receive = 0;
}

void guest_wait(struct guest *guest) {
    struct pollfd calls[2] = {{guest->receive.call, POLLIN, 0}, {guest->transmit.call, POLLIN, 0}};
    guest->receive.waits++;
    int ready = poll(calls, 2, 20000);
    if (ready == 0) errno = ETIMEDOUT;
    if (ready <= 0) fail("waiting for the device");
    eventfd_t value;
    for (int index = 0; index < 2; index++)
        if (calls[index].revents) eventfd_read(calls[index].fd, &value);
}
