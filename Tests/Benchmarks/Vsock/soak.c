// SPDX-License-Identifier: Apache-2.0
//
// soak SECONDS VHOST-USER-SOCKET PATH: connections of every kind for a while, every byte checked. Both sides connect;
// each direction of a connection says in its first 16 bytes what is coming; some connections are broken off. From a
// minute on, the first one carries 5 GiB each way, beyond what the counters of a connection hold.

#define _GNU_SOURCE
#include "guest.h"
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD = 1048573, SLACK = 65536, CROWD = 64, PREFACE = 16, PAYLOAD = 4096 };

static char pattern[PERIOD + SLACK];
static const char *path;
static uint64_t state = 88172645463325252ULL;

static uint64_t any(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

// One direction of a connection: a preface, then `length` bytes of the pattern from `seed` on.
struct direction {
    uint64_t seed, length, offset;
    bool breaks_off, is_over;
    char preface[PREFACE];
};

static void choose(struct direction *direction, bool is_marathon) {
    unsigned kind = any() % 100;
    uint64_t limit = kind < 50 ? 200 : kind < 92 ? 65536 : 4 << 20;
    memset(direction, 0, sizeof *direction);
    direction->seed = any() % PERIOD;
    direction->length = is_marathon ? 5ULL << 30 : any() % limit;
    direction->breaks_off = !is_marathon && any() % 16 == 0;
    uint64_t words[2] = {direction->seed, direction->length | (uint64_t)direction->breaks_off << 63};
    memcpy(direction->preface, words, PREFACE);
}

static uint64_t whole(const struct direction *direction) { return PREFACE + direction->length; }

// Where this direction ends: early when it is broken off.
static uint64_t end_of(const struct direction *direction) {
    return direction->breaks_off ? PREFACE + direction->length / 2 : whole(direction);
}

// Copies what comes next, at most `room` bytes.
static size_t produce(struct direction *direction, char *target, size_t room) {
    uint64_t left = end_of(direction) - direction->offset;
    size_t count = left < room ? left : room;
    if (direction->offset < PREFACE) {
        if (count > PREFACE - direction->offset) count = PREFACE - direction->offset;
        memcpy(target, direction->preface + direction->offset, count);
    } else {
        memcpy(target, pattern + (direction->seed + direction->offset - PREFACE) % PERIOD, count);
    }
    return count;
}

static void check(struct direction *direction, const char *bytes, size_t count) {
    while (count > 0) {
        size_t part = count;
        if (direction->offset < PREFACE) {
            if (part > PREFACE - direction->offset) part = PREFACE - direction->offset;
            memcpy(direction->preface + direction->offset, bytes, part);
            direction->offset += part;
            if (direction->offset == PREFACE) {
                uint64_t words[2];
                memcpy(words, direction->preface, PREFACE);
                direction->seed = words[0];
                direction->length = words[1] << 1 >> 1;
                direction->breaks_off = words[1] >> 63;
                if (direction->seed >= PERIOD) fail("a preface that nobody wrote");
            }
        } else {
            if (part > SLACK) part = SLACK;
            if (direction->offset + part > whole(direction)) fail("more bytes than were sent");
            if (memcmp(bytes, pattern + (direction->seed + direction->offset - PREFACE) % PERIOD, part) != 0)
                fail("other bytes than were sent");
            direction->offset += part;
        }
        bytes += part;
        count -= part;
    }
}

// The sender will send no more.
static void check_end(struct direction *direction, bool may_be_cut) {
    if (direction->is_over) return;
    direction->is_over = true;
    if (may_be_cut || (direction->offset >= PREFACE && direction->breaks_off)) return;
    if (direction->offset != whole(direction)) fail("fewer bytes than were sent");
}

// The host's side, a process of its own.

struct connection {
    int fd;
    // The peer broke off: the kernel says so once, to whichever call comes next.
    bool waits_for_ok, was_reset;
    struct direction out, in;
};

static struct connection crowd[CROWD];
static int crowd_count, timeouts;

static int unix_socket(const char *name, bool listens) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listens) {
        if (bind(fd, (void *)&address, sizeof address) != 0 || listen(fd, 128) != 0) fail(name);
        return fd;
    }
    if (connect(fd, (void *)&address, sizeof address) == 0) return fd;
    if (errno != EAGAIN) fail(name);
    close(fd);
    return -1;
}

static void add(int fd, bool waits_for_ok, bool is_marathon) {
    struct connection *connection = &crowd[crowd_count++];
    memset(connection, 0, sizeof *connection);
    connection->fd = fd;
    connection->waits_for_ok = waits_for_ok;
    choose(&connection->out, is_marathon);
}

// False when the connection has ended.
static bool serve(struct connection *connection, short events) {
    static char bytes[SLACK];
    if (connection->waits_for_ok) {
        if (!(events & (POLLIN | POLLHUP))) return true;
        char line[16];
        ssize_t count = recv(connection->fd, line, 9, MSG_PEEK);
        // The guest has not answered in two seconds: this machine does not let it run.
        if (count == 0) {
            timeouts++;
            return false;
        }
        if (count < 6 || memcmp(line, "OK ", 3) != 0) fail("no OK");
        char *end = memchr(line, '\n', count);
        if (!end || recv(connection->fd, line, end + 1 - line, 0) != end + 1 - line) fail("OK line");
        connection->waits_for_ok = false;
    }
    if (events & (POLLIN | POLLHUP)) {
        ssize_t count = recv(connection->fd, bytes, 1 + any() % SLACK, 0);
        // Reset by a guest that broke it off.
        if (count < 0 && errno != EAGAIN && errno != ECONNRESET) fail("recv");
        if (count < 0 && errno == ECONNRESET) connection->was_reset = true;
        if (count > 0) check(&connection->in, bytes, count);
        if (count == 0 || connection->was_reset) check_end(&connection->in, connection->was_reset);
    }
    if ((events & POLLOUT) && !connection->out.is_over) {
        size_t count = produce(&connection->out, bytes, 1 + any() % SLACK);
        ssize_t sent = count == 0 ? 0 : send(connection->fd, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == ECONNRESET) connection->was_reset = true;
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) connection->out.is_over = true;
        else if (sent < 0 && errno != EAGAIN) fail("send");
        if (sent > 0) connection->out.offset += sent;
        if (connection->out.offset == end_of(&connection->out)) {
            connection->out.is_over = true;
            if (connection->out.breaks_off) return false;
            shutdown(connection->fd, SHUT_WR);
        }
    }
    return !(connection->in.is_over && connection->out.is_over);
}

static void host(double deadline, bool has_marathon) {
    char name[108];
    snprintf(name, sizeof name, "%s_5000", path);
    unlink(name);
    int listener = unix_socket(name, true);
    bool is_first = has_marathon;
    while (now() < deadline + 2 || crowd_count > 0) {
        if (now() < deadline && crowd_count < CROWD / 2) {
            int fd = unix_socket(path, false);
            if (fd >= 0) {
                if (send(fd, "CONNECT 4000\n", 13, 0) != 13) fail("CONNECT");
                add(fd, true, is_first);
                is_first = false;
            }
        }
        struct pollfd polled[CROWD + 1] = {{listener, crowd_count < CROWD ? POLLIN : 0, 0}};
        for (int index = 0; index < crowd_count; index++) {
            struct connection *connection = &crowd[index];
            bool writes = !connection->waits_for_ok && !connection->out.is_over;
            polled[index + 1] = (struct pollfd){
                connection->fd, (connection->in.is_over ? 0 : POLLIN) | (writes ? POLLOUT : 0), 0};
        }
        poll(polled, crowd_count + 1, 5);
        for (int index = crowd_count - 1; index >= 0; index--)
            if (polled[index + 1].revents && !serve(&crowd[index], polled[index + 1].revents)) {
                close(crowd[index].fd);
                crowd[index] = crowd[--crowd_count];
            }
        if (polled[0].revents) {
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd >= 0) add(fd, false, false);
        }
    }
    if (timeouts > 0) fprintf(stderr, "%d clients were closed because the guest was too slow\n", timeouts);
    exit(0);
}

// The guest's side.

enum { FREE, ASKING, OPEN, CLOSING };

struct guest_stream {
    struct stream stream;
    int phase;
    // Whether the credit is given late, as a slow reader does.
    bool is_lazy;
    struct direction out, in;
};

static struct guest guest;
static struct guest_stream streams[CROWD];
static uint64_t moved, connections;

static struct guest_stream *find(const struct header *header) {
    for (int index = 0; index < CROWD; index++) {
        struct guest_stream *stream = &streams[index];
        if (stream->phase != FREE && stream->stream.host_port == header->source_port &&
            stream->stream.guest_port == header->destination_port)
            return stream;
    }
    return NULL;
}

static struct guest_stream *open_stream(uint32_t guest_port, uint32_t host_port, bool is_marathon) {
    for (int index = 0; index < CROWD; index++) {
        struct guest_stream *stream = &streams[index];
        if (stream->phase != FREE) continue;
        memset(stream, 0, sizeof *stream);
        stream->stream = (struct stream){.guest_port = guest_port, .host_port = host_port};
        stream->is_lazy = any() % 4 == 0;
        choose(&stream->out, is_marathon);
        connections++;
        return stream;
    }
    fail("more connections than there can be");
}

static void answer(struct guest_stream *stream, uint16_t operation, uint32_t flags) {
    if (guest_reap(&guest) == 0) fail("no room to answer");
    guest_send(&guest, &stream->stream, operation, flags, 0);
}

static void take(struct header *header, bool marathon) {
    static bool had_first;
    if (header->operation == REQUEST) {
        struct guest_stream *stream =
            open_stream(header->destination_port, header->source_port, marathon && !had_first);
        had_first = true;
        stream->stream.peer_allocation = header->buffer_allocation;
        stream->phase = OPEN;
        answer(stream, RESPONSE, 0);
        return;
    }
    struct guest_stream *stream = find(header);
    if (!stream) {
        // What was under way when we broke off.
        if (header->operation == RESET) return;
        struct guest_stream stray = {.stream = {.guest_port = header->destination_port, .host_port = header->source_port}};
        answer(&stray, RESET, 0);
        return;
    }
    stream->stream.peer_forwarded = header->forward_count;
    stream->stream.peer_allocation = header->buffer_allocation;
    switch (header->operation) {
    case RESPONSE: stream->phase = OPEN; break;
    case READ_WRITE:
        check(&stream->in, (char *)(header + 1), header->length);
        moved += header->length;
        stream->stream.received += header->length;
        if (stream->stream.received - stream->stream.reported >= (stream->is_lazy ? 250000u : 65536u))
            answer(stream, CREDIT_UPDATE, 0);
        break;
    case CREDIT_REQUEST: answer(stream, CREDIT_UPDATE, 0); break;
    case SHUTDOWN:
        // The host reads no more: it has broken off, or the end of ours has come too.
        if (header->flags & 1) stream->out.is_over = true;
        if (header->flags & 2) check_end(&stream->in, stream->in.offset < PREFACE && (header->flags & 1));
        if ((header->flags & 3) == 3) {
            answer(stream, RESET, 0);
            stream->phase = FREE;
        }
        break;
    case RESET:
        if (stream->phase == ASKING) fail("refused");
        if (stream->phase != CLOSING) check_end(&stream->in, true);
        stream->phase = FREE;
        break;
    case CREDIT_UPDATE: break;
    default: fail("an operation that is none");
    }
}

static void pump(struct guest_stream *stream) {
    static char bytes[PAYLOAD];
    while (!stream->out.is_over && guest_reap(&guest) > 128) {
        uint32_t limit = stream->stream.peer_allocation < CREDIT ? stream->stream.peer_allocation : CREDIT;
        uint32_t credit = limit - (stream->stream.sent - stream->stream.peer_forwarded);
        uint64_t left = end_of(&stream->out) - stream->out.offset;
        if (left == 0) {
            stream->out.is_over = true;
            if (stream->out.breaks_off) {
                answer(stream, RESET, 0);
                stream->phase = FREE;
                return;
            }
            if (!stream->in.is_over) answer(stream, SHUTDOWN, 2);
            break;
        }
        if (credit == 0) return;
        size_t count = produce(&stream->out, bytes, credit < PAYLOAD ? credit : PAYLOAD);
        uint16_t slot = (uint16_t)(guest.transmit.available_index + guest.queued) % RING_SIZE;
        memcpy(guest.transmit.buffers + slot * guest.transmit.buffer_size + HEADER_SIZE, bytes, count);
        guest_send(&guest, &stream->stream, READ_WRITE, 0, count);
        stream->out.offset += count;
        moved += count;
    }
    if (stream->phase == OPEN && stream->out.is_over && stream->in.is_over && guest_reap(&guest) > 128) {
        answer(stream, SHUTDOWN, 3);
        stream->phase = CLOSING;
    }
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "soak SECONDS SOCKET PATH\n"); return 2; }
    double seconds = strtod(argv[1], NULL), deadline = now() + seconds;
    path = argv[3];
    for (int index = 0; index < PERIOD; index++) pattern[index] = any() >> 40;
    memcpy(pattern + PERIOD, pattern, SLACK);
    guest_start(&guest, argv[2], PAYLOAD);
    int child = fork();
    if (child == 0) host(deadline, seconds >= 60);
    uint32_t next = 1024;
    double quiet_since = now();
    for (;;) {
        struct header *header;
        bool has_any = false;
        while (guest_reap(&guest) > 32 && (header = guest_receive(&guest))) {
            take(header, seconds >= 60);
            has_any = true;
        }
        guest_post(&guest);
        int in_use = 0, asked = 0;
        for (int index = 0; index < CROWD; index++) {
            if (streams[index].phase == OPEN) pump(&streams[index]);
            in_use += streams[index].phase != FREE;
            asked += streams[index].phase != FREE && streams[index].stream.host_port == 5000;
        }
        // The listener is there a moment after the start.
        if (now() < deadline && now() > deadline - seconds + 0.5 && asked < CROWD / 3 && in_use < CROWD / 2 &&
            guest_reap(&guest) > 128) {
            struct guest_stream *stream = open_stream(next++, 5000, false);
            stream->phase = ASKING;
            guest_send(&guest, &stream->stream, REQUEST, 0, 0);
            has_any = true;
        }
        guest_publish(&guest);
        if (has_any) {
            quiet_since = now();
            continue;
        }
        int status;
        if (in_use == 0 && now() > deadline) {
            pid_t ended = waitpid(child, &status, WNOHANG);
            if (ended == child) {
                if (status != 0) return 1;
                printf("%.0f s: %lu connections, %.1f MiB, every byte right\n", seconds,
                       (unsigned long)connections, moved / 1048576.0);
                return 0;
            }
        }
        if (now() > quiet_since + 30) fail("nothing happens any more");
        struct pollfd calls[2] = {{guest.receive.call, POLLIN, 0}, {guest.transmit.call, POLLIN, 0}};
        poll(calls, 2, 5);
        uint64_t value;
        for (int index = 0; index < 2; index++)
            if (calls[index].revents && read(calls[index].fd, &value, sizeof value) < 0) fail("call");
    }
}
