// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "transfer.h"

#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

char data[65536];

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

void write_all(int fd, uint64_t total, size_t size) {
    while (total > 0) {
        ssize_t done = write(fd, data, total < size ? total : size);
        if (done <= 0) fail("write");
        total -= done;
    }
}

void read_all(int fd, uint64_t total, size_t size) {
    while (total > 0) {
        ssize_t done = read(fd, data, total < size ? total : size);
        if (done <= 0) fail("read");
        total -= done;
    }
}

// Writes or reads through the 256 buffers of the end that stands for the guest.
static void pass_all(int fd, uint64_t total, size_t size, bool writes) {
    size_t slots = RING_SIZE, slot = 0;
    char *buffers = mmap(NULL, slots * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(buffers, 'x', slots * size);
    while (total > 0) {
        char *buffer = buffers + slot++ % slots * size;
        for (size_t done = 0; done < size && total > 0;) {
            ssize_t count = writes ? write(fd, buffer + done, size - done) : read(fd, buffer + done, size - done);
            if (count <= 0) fail("the guest's end");
            done += count;
            total -= count;
        }
    }
}

void relay(bool is_in, size_t size, uint64_t total, size_t buffer) {
    int first[2], second[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, first);
    socketpair(AF_UNIX, SOCK_STREAM, 0, second);
    double start = now();
    int producer = fork();
    if (producer == 0) {
        if (is_in) write_all(first[0], total, size);
        else pass_all(first[0], total, size, true);
        exit(0);
    }
    int copier = fork();
    if (copier == 0) {
        for (uint64_t left = total; left > 0;) {
            ssize_t count = read(first[1], data, buffer);
            if (count <= 0) fail("relay");
            write_all(second[0], count, count);
            left -= count;
        }
        exit(0);
    }
    if (is_in) pass_all(second[1], total, size, false);
    else read_all(second[1], total, 65536);
    double seconds = now() - start;
    struct rusage usage;
    int status;
    waitpid(producer, &status, 0);
    wait4(copier, &status, 0, &usage);
    double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                 (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    printf("%.6f %.6f 0\n", seconds, cpu);
}
