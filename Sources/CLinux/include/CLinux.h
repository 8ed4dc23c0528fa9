// SPDX-License-Identifier: Apache-2.0
//
// What Swift cannot import from Glibc: inline functions, macros with arguments, and calls that
// need _GNU_SOURCE. That macro is never defined in this header (it changes the types that the
// Glibc module exports); what needs it lives in CLinux.c.
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/// Constants that need _GNU_SOURCE or are macros that Swift does not import.
extern const int cl_o_direct;
extern const int cl_msg_cmsg_cloexec;
extern const unsigned int cl_fallocate_keep_size;
extern const unsigned int cl_fallocate_punch_hole;
extern const unsigned int cl_fallocate_zero_range;
extern const int cl_seek_data;
extern const int cl_seek_hole;

int cl_accept4(int descriptor);
int cl_memfd_create(const char *name, int allow_sealing);
int cl_memfd_seal_shrink(int descriptor);
int cl_fallocate(int descriptor, int mode, int64_t offset, int64_t length);
int cl_set_thread_name(const char *name);
int cl_bind_thread_to_cpu(int cpu);

/// Waits for events like epoll_wait, for a number of nanoseconds. The first call makes the calling
/// thread's timers exact to 5 microseconds. A kernel without epoll_pwait2 (before 5.11) waits for
/// milliseconds, rounded up.
int cl_epoll_wait_exactly(
    int poll, struct epoll_event *events, int capacity, int64_t nanoseconds);

/// Whether `cl_epoll_wait_exactly` does: 1, or 0 on a kernel that has only milliseconds.
int cl_has_exact_waits(void);

/// Receives up to `length` bytes and up to `capacity` descriptors, all close-on-exec.
/// `*count` descriptors are stored. When the control message was truncated, or holds more than
/// `capacity` descriptors, every one that came is closed, `*count` is 0 and `*truncated` is 1.
ssize_t cl_receive_with_descriptors(
    int socket, void *bytes, size_t length, int *descriptors, size_t capacity, size_t *count,
    int *truncated);

/// Sends `length` bytes with `count` descriptors attached to the first byte. MSG_NOSIGNAL.
ssize_t cl_send_with_descriptors(
    int socket, const void *bytes, size_t length, const int *descriptors, size_t count);

/// Alignment that O_DIRECT asks for (statx STATX_DIOALIGN); both 0 when the file has no direct I/O.
/// Returns 1, 0 when the kernel or the file system does not say, or -1 with errno set.
int cl_direct_io_alignment(int descriptor, uint32_t *memory, uint32_t *offset);

/// Size in bytes, logical and physical block size of a block device. Returns 0, or -1 with errno.
int cl_block_device_geometry(
    int descriptor, uint64_t *byte_count, uint32_t *logical, uint32_t *physical);

/// Gives back the program's own code pages that are mapped but were needed at start-up only; those
/// still needed are mapped again from the page cache on their next use.
void cl_release_code_pages(void);

/// Survives the loss of mapped guest memory: when the file behind a mapping was cut short, the page
/// that was touched becomes a page of zeroes of ours. Returns 0, or -1 with errno set.
int cl_survive_lost_memory(void);

/// Neither this process nor what it executes ever gets more rights than it has now, and, where the
/// kernel has Landlock, it executes nothing and makes no device, folder, link or pipe. For the calling
/// thread and those that it starts. Returns 1 with Landlock, 0 without, or -1 with errno set.
int cl_give_up_rights(void);

/// How many pages were lost so far.
unsigned long cl_lost_page_count(void);

/// The calling thread has something to do: as long as it has, a system call in which it hangs is
/// interrupted (SIGURG, EINTR) every so many milliseconds. Returns 0, or -1 with errno set.
int cl_stall_alarm_start(int milliseconds);

/// The calling thread goes to wait for something to do. The alarm ends by itself when that takes long.
void cl_stall_alarm_pause(void);

/// Gives back what the alarm needs in the calling thread.
void cl_stall_alarm_end(void);

/// Tells the processor that this is a loop that waits, for the sake of who shares the core.
static inline void cl_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/// Asks for the cache line at an address that is read, or written, soon; any address will do.
static inline void cl_prefetch_to_read(const void *address) { __builtin_prefetch(address, 0, 3); }
static inline void cl_prefetch_to_write(const void *address) { __builtin_prefetch(address, 1, 3); }

/// AF_VSOCK sockets of this kernel, nonblocking and close-on-exec: a descriptor, or -1 with errno set.
/// A connection is under way, or made; what became of it shows when the socket is writable.
int cl_vsock_connect(unsigned int cid, unsigned int port, int kind);
int cl_vsock_listen(unsigned int cid, unsigned int port, int kind, int backlog);

/// Whether a stream socket, of any family, is connected: 1; 0 while that is under way; -1 with errno
/// set when it came to nothing.
int cl_connection_outcome(int socket);

/// Open file description locks (F_OFD_SETLK): 0, or -1 with errno set.
int cl_lock_whole_file(int descriptor, int exclusive);

/// Open file description locks on `length` bytes from `start`, 0 for all to the end of the largest file:
/// shared (0), exclusive (1) or none (2). With `waits` (F_OFD_SETLKW) as long as somebody else has one.
/// Returns 0, or -1 with errno set.
int cl_lock_range(int descriptor, int64_t start, int64_t length, int kind, int waits);

/// Whether another open file description has any lock there: 1 or 0, or -1 with errno set.
int cl_is_range_locked(int descriptor, int64_t start, int64_t length);

/// What kind of file system a file lies on: the f_type of statfs. Returns 0, or -1 with errno set.
int cl_file_system_type(int descriptor, int64_t *type);

/// pwritev2; with `durable` the data is on the medium when the call returns (RWF_DSYNC).
ssize_t cl_write_vectors(
    int descriptor, const struct iovec *vectors, int count, int64_t offset, int durable);

/// Frees a range of a block device (BLKDISCARD). Returns 0, or -1 with errno set.
int cl_block_device_discard(int descriptor, uint64_t offset, uint64_t length);

/// RWF_DSYNC and RWF_NOWAIT, for aio_rw_flags.
extern const unsigned int cl_rwf_dsync;
extern const unsigned int cl_rwf_nowait;

#endif
