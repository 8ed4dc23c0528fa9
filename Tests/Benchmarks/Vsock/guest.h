// SPDX-License-Identifier: Apache-2.0
//
// A guest without a kernel: the driver's side of a vsock device's two rings, over vhost-user. Split rings of
// 256 entries, no event index, one descriptor a packet, header and payload together.
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_SIZE = 256, HEADER_SIZE = 44, GUEST_CID = 42, CREDIT = 256 * 1024 };

enum { REQUEST = 1, RESPONSE, RESET, SHUTDOWN, READ_WRITE, CREDIT_UPDATE, CREDIT_REQUEST };

struct header {
    uint64_t source_cid, destination_cid;
    uint32_t source_port, destination_port, length;
    uint16_t type, operation;
    uint32_t flags, buffer_allocation, forward_count;
} __attribute__((packed));

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct used_entry {
    uint32_t id, length;
};

struct ring {
    struct descriptor *descriptors;
    volatile uint16_t *available;
    volatile uint16_t *used;
    volatile struct used_entry *used_entries;
    uint16_t available_index, used_index;
    int kick, call;
    uint64_t kicks, waits;
    char *buffers;
    size_t buffer_size;
};

// One connection of the guest.
struct stream {
    uint32_t guest_port, host_port;
    uint32_t sent, peer_forwarded, peer_allocation;
    uint32_t received, reported;
};

struct guest {
    struct ring receive, transmit;
    // Packets queued and not published.
    uint16_t queued, queued_receive;
    uint16_t free_transmit;
};

void guest_start(struct guest *guest, const char *socket_path, size_t payload);

// The next transmit buffer, which must be free: the header filled in, `length` bytes of payload behind it.
void guest_send(struct guest *guest, struct stream *stream, uint16_t operation, uint32_t flags, uint32_t length);
void guest_publish(struct guest *guest);
// Takes transmit buffers back that were used; how many are free.
unsigned guest_reap(struct guest *guest);
// The next packet for the guest; NULL when there is none. Its buffer is posted again with the next call of
// `guest_post`.
struct header *guest_receive(struct guest *guest);
void guest_post(struct guest *guest);
// Waits until either ring was signalled.
void guest_wait(struct guest *guest);

void fail(const char *what) __attribute__((noreturn));

#endif
