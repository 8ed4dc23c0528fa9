// SPDX-License-Identifier: Apache-2.0
//
// benchmark KIND BYTES TOTAL VHOST-USER-SOCKET PATH PID: one run against the daemon PID; prints what was moved a
// second, the daemon's processor time and its system calls (when COUNTS names the file that counts them).
//
// KIND: in (host to guest), out (guest to host), ping (64-byte round trips), guest-connects, host-connects.
// benchmark idle 64 COUNT SOCKET PATH PID: COUNT connections that do nothing; prints the memory that each costs the
// daemon, in bytes, and its processor seconds and system calls in two seconds of all of them.
// benchmark relay-in|relay-out BYTES TOTAL [BUFFER]: a process that copies between two socket pairs, with a buffer of
// BUFFER bytes (BYTES). The end that stands for the guest has 256 buffers, as the guest has, and uses them in turn.

#define _GNU_SOURCE
#include "guest.h"
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *path;
static uint64_t *counts;

// Processor seconds of a process so far, threads included.
static double processor(int pid) {
    char name[64], text[1024];
    snprintf(name, sizeof name, "/proc/%d/task", pid);
    double sum = 0;
    // schedstat: nanoseconds on a processor, exact to the switch.
    char command[128];
    snprintf(command, sizeof command, "cat /proc/%d/task/*/schedstat", pid);
    FILE *file = popen(command, "r");
    while (fgets(text, sizeof text, file)) sum += strtod(text, NULL) * 1e-9;
    pclose(file);
    return sum;
}

// Memory of a process, in bytes.
static double memory(int pid) {
    char name[64], text[256];
    double kilobytes = 0;
    snprintf(name, sizeof name, "/proc/%d/status", pid);
    FILE *file = fopen(name, "r");
    while (file && fgets(text, sizeof text, file)) sscanf(text, "VmRSS: %lf", &kilobytes);
    if (file) fclose(file);
    return kilobytes * 1024;
}

static void allow_descriptors(void) {
    struct rlimit limit = {200000, 200000};
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int connect_to(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    while (connect(fd, (void *)&address, sizeof address) != 0)
        if (errno != EAGAIN) fail(name);
    return fd;
}

static int listen_at(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
    unlink(name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (void *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) fail(name);
    return fd;
}

// The host's client: names the port, waits for the answer.
static int open_client(void) {
    int fd = connect_to(path);
    if (write(fd, "CONNECT 4000\n", 13) != 13) fail("CONNECT");
    char line[16] = "";
    for (size_t length = 0; length == 0 || line[length - 1] != '\n';) {
        ssize_t done = read(fd, line + length, 1);
        if (done != 1) fail("OK");
        length++;
    }
    if (memcmp(line, "OK ", 3) != 0) fail("OK line");
    return fd;
}

// The host's half, in a process of its own. A byte on `go` starts it.
static void host(const char *kind, size_t size, uint64_t total, int go) {
    char byte;
    if (strcmp(kind, "guest-connects") == 0) {
        char name[108];
        snprintf(name, sizeof name, "%s_5000", path);
        int listener = listen_at(name);
        if (write(go, "r", 1) != 1) fail("ready");
        for (uint64_t index = 0; index < total; index++) {
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) fail("accept");
            close(fd);
        }
        exit(0);
    }
    if (strcmp(kind, "idle") == 0) {
        char name[108];
        allow_descriptors();
        snprintf(name, sizeof name, "%s_5000", path);
        int listener = listen_at(name);
        if (write(go, "r", 1) != 1) fail("ready");
        for (uint64_t index = 0; index < total; index++)
            if (accept(listener, NULL, NULL) < 0) fail("accept");
        if (read(go, &byte, 1) < 0) fail("end");
        exit(0);
    }
    if (strcmp(kind, "host-connects") == 0) {
        if (write(go, "r", 1) != 1 || read(go, &byte, 1) != 1) fail("go");
        for (uint64_t index = 0; index < total; index++) close(open_client());
        exit(0);
    }
    int fd = open_client();
    if (read(go, &byte, 1) != 1) fail("go");
    if (strcmp(kind, "in") == 0) write_all(fd, total, size);
    if (strcmp(kind, "out") == 0) read_all(fd, total, 65536);
    if (strcmp(kind, "ping") == 0)
        for (uint64_t index = 0; index < total; index++) {
            if (write(fd, data, size) != (ssize_t)size) fail("ping");
            read_all(fd, size, size);
        }
    if (write(go, "d", 1) != 1 || read(go, &byte, 1) != 1) fail("done");
    exit(0);
}

static void take_credit(struct stream *stream, struct header *header) {
    stream->peer_forwarded = header->forward_count;
    stream->peer_allocation = header->buffer_allocation;
}

static uint32_t credit(struct stream *stream) {
    uint32_t limit = stream->peer_allocation < CREDIT ? stream->peer_allocation : CREDIT;
    return limit - (stream->sent - stream->peer_forwarded);
}

// Accepts the host's connection.
static void accept_client(struct guest *guest, struct stream *stream) {
    struct header *header;
    while (!(header = guest_receive(guest))) guest_wait(guest);
    if (header->operation != REQUEST || header->destination_port != 4000) fail("REQUEST");
    *stream = (struct stream){.guest_port = 4000, .host_port = header->source_port};
    take_credit(stream, header);
    guest_post(guest);
    guest_send(guest, stream, RESPONSE, 0, 0);
    guest_publish(guest);
}

// Credit updates every 64 KiB, as Linux and the published comparison do.
static void consume(struct guest *guest, struct stream *stream, struct header *header) {
    take_credit(stream, header);
    stream->received += header->length;
    if (stream->received - stream->reported >= 65536) {
        guest_reap(guest);
        guest_send(guest, stream, CREDIT_UPDATE, 0, 0);
        guest_publish(guest);
    }
}

static void run_in(struct guest *guest, struct stream *stream, uint64_t total) {
    while (total > 0) {
        struct header *header;
        bool any = false;
        while ((header = guest_receive(guest))) {
            any = true;
            if (header->operation == READ_WRITE) total -= header->length;
            consume(guest, stream, header);
        }
        guest_post(guest);
        if (!any && total > 0) guest_wait(guest);
    }
}

static void run_out(struct guest *guest, struct stream *stream, size_t size, uint64_t total) {
    while (total > 0) {
        struct header *header;
        while ((header = guest_receive(guest))) {
            if (header->operation != CREDIT_UPDATE) fail("unexpected packet");
            take_credit(stream, header);
        }
        guest_post(guest);
        unsigned room = guest_reap(guest);
        bool any = false;
        while (room > 0 && total > 0 && credit(stream) >= size) {
            guest_send(guest, stream, READ_WRITE, 0, size);
            total -= size;
            room--;
            any = true;
        }
        guest_publish(guest);
        if (!any) guest_wait(guest);
    }
}

static void run_ping(struct guest *guest, struct stream *stream, size_t size, uint64_t total) {
    uint64_t left = total * size;
    while (left > 0) {
        struct header *header;
        uint32_t echo = 0;
        while ((header = guest_receive(guest))) {
            take_credit(stream, header);
            stream->received += header->length;
            echo += header->length;
        }
        guest_post(guest);
        if (echo == 0) {
            guest_wait(guest);
            continue;
        }
        guest_reap(guest);
        guest_send(guest, stream, READ_WRITE, 0, echo);
        guest_publish(guest);
        left -= echo;
    }
}

// Connections that the guest asks for, 64 at once, each closed by the host as soon as it is accepted.
static void run_guest_connects(struct guest *guest, uint64_t total) {
    uint32_t next = 1024;
    uint64_t started = 0, ended = 0;
    while (ended < total) {
        struct header *header;
        bool any = false;
        while ((header = guest_receive(guest))) {
            struct stream stream = {.guest_port = header->destination_port, .host_port = header->source_port};
            any = true;
            if (header->operation == RESPONSE) continue;
            if (header->operation != SHUTDOWN) fail("expected SHUTDOWN");
            if ((header->flags & 3) != 3) continue;
            if (guest_reap(guest) == 0) fail("no room to answer");
            guest_send(guest, &stream, RESET, 0, 0);
            ended++;
        }
        guest_post(guest);
        unsigned room = guest_reap(guest);
        while (started < total && started - ended < 64 && room > 80) {
            struct stream stream = {.guest_port = next++, .host_port = 5000};
            guest_send(guest, &stream, REQUEST, 0, 0);
            started++;
            room--;
            any = true;
        }
        guest_publish(guest);
        if (!any) guest_wait(guest);
    }
}

static void run_host_connects(struct guest *guest, uint64_t total) {
    uint64_t ended = 0;
    while (ended < total) {
        struct header *header;
        bool any = false;
        while ((header = guest_receive(guest))) {
            struct stream stream = {.guest_port = header->destination_port, .host_port = header->source_port};
            any = true;
            guest_reap(guest);
            if (header->operation == REQUEST) guest_send(guest, &stream, RESPONSE, 0, 0);
            if (header->operation == SHUTDOWN && (header->flags & 3) == 3) {
                guest_send(guest, &stream, RESET, 0, 0);
                ended++;
            }
        }
        guest_post(guest);
        guest_publish(guest);
        if (!any) guest_wait(guest);
    }
}

static uint64_t calls(void);

static void run_idle(struct guest *guest, uint64_t total, int pid) {
    uint64_t asked = 0, open = 0;
    double before = memory(pid);
    while (open < total) {
        struct header *header;
        bool any = false;
        while ((header = guest_receive(guest))) {
            if (header->operation != RESPONSE) fail("expected RESPONSE");
            open++;
            any = true;
        }
        guest_post(guest);
        while (asked < total && asked - open < 64 && guest_reap(guest) > 0) {
            struct stream stream = {.guest_port = 1024 + asked++, .host_port = 5000};
            guest_send(guest, &stream, REQUEST, 0, 0);
            any = true;
        }
        guest_publish(guest);
        if (!any) guest_wait(guest);
    }
    sleep(1);
    double cost = (memory(pid) - before) / total, cpu = processor(pid);
    uint64_t count = calls();
    sleep(2);
    printf("%.0f %.6f %lu\n", cost, processor(pid) - cpu, calls() - count);
}

// The calls that counts.c counts, by its numbers.
static void print_calls(const uint64_t *before) {
    static const char *names[] = {"sendmsg", "recvmsg", "send",  "recv",       "read",  "write",    "epoll_wait", "epoll_ctl",
                                  "accept4", "connect", "socket", "close",     "setsockopt", "poll", "shutdown",   "getsockopt",
                                  "epoll_pwait2"};
    for (size_t index = 0; counts && index < sizeof names / sizeof names[0]; index++)
        if (counts[index] != before[index]) printf(" %s=%lu", names[index], counts[index] - before[index]);
}

static uint64_t calls(void) {
    uint64_t sum = 0;
    if (counts)
        for (int index = 0; index < 32; index++) sum += __atomic_load_n(&counts[index], __ATOMIC_RELAXED);
    return sum;
}

int main(int argc, char **argv) {
    if (argc < 4) { fprintf(stderr, "benchmark KIND BYTES TOTAL [SOCKET PATH PID]\n"); return 2; }
    const char *kind = argv[1];
    size_t size = strtoul(argv[2], NULL, 0);
    uint64_t total = strtoull(argv[3], NULL, 0);
    memset(data, 'x', sizeof data);
    if (strncmp(kind, "relay", 5) == 0) {
        relay(strcmp(kind, "relay-in") == 0, size, total, argc > 4 ? strtoul(argv[4], NULL, 0) : size);
        return 0;
    }
    path = argv[5];
    int pid = atoi(argv[6]);
    if (getenv("COUNTS")) {
        int file = open(getenv("COUNTS"), O_RDWR);
        counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (counts == MAP_FAILED) fail("COUNTS");
    }
    struct guest guest;
    allow_descriptors();
    guest_start(&guest, argv[4], size);
    int go[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, go);
    int child = fork();
    if (child == 0) { close(go[1]); host(kind, size, total, go[0]); }
    close(go[0]);
    struct stream stream;
    bool isTransfer = strcmp(kind, "in") == 0 || strcmp(kind, "out") == 0 || strcmp(kind, "ping") == 0;
    char byte;
    if (isTransfer) accept_client(&guest, &stream);
    else if (read(go[1], &byte, 1) != 1) fail("ready");
    if (strcmp(kind, "idle") == 0) {
        run_idle(&guest, total, pid);
        close(go[1]);
        return 0;
    }
    double cpu = processor(pid), start = now();
    uint64_t before = calls(), each[32] = {0};
    if (counts) memcpy(each, counts, sizeof each);
    if (strcmp(kind, "guest-connects") != 0 && write(go[1], "g", 1) != 1) fail("go");
    if (strcmp(kind, "in") == 0) run_in(&guest, &stream, total);
    else if (strcmp(kind, "out") == 0) run_out(&guest, &stream, size, total);
    else if (strcmp(kind, "ping") == 0) run_ping(&guest, &stream, size, total);
    else if (strcmp(kind, "guest-connects") == 0) run_guest_connects(&guest, total);
    else if (strcmp(kind, "host-connects") == 0) run_host_connects(&guest, total);
    else fail("KIND");
    if (isTransfer && read(go[1], &byte, 1) != 1) fail("done");
    double seconds = now() - start;
    uint64_t after = calls();
    cpu = processor(pid) - cpu;
    printf("%.6f %.6f %lu kicks=%lu waits=%lu", seconds, cpu, after - before,
           guest.transmit.kicks + guest.receive.kicks, guest.receive.waits);
    print_calls(each);
    printf("\n");
    if (isTransfer && write(go[1], "e", 1) != 1) fail("end");
    int status;
    waitpid(child, &status, 0);
    return status != 0;
}
