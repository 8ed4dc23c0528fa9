// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

const int cl_o_direct = O_DIRECT;
const int cl_msg_cmsg_cloexec = MSG_CMSG_CLOEXEC;
const unsigned int cl_fallocate_keep_size = FALLOC_FL_KEEP_SIZE;
const unsigned int cl_fallocate_punch_hole = FALLOC_FL_PUNCH_HOLE;
const unsigned int cl_fallocate_zero_range = FALLOC_FL_ZERO_RANGE;
const unsigned int cl_rwf_dsync = RWF_DSYNC;
const unsigned int cl_rwf_nowait = RWF_NOWAIT;
const int cl_seek_data = SEEK_DATA;
const int cl_seek_hole = SEEK_HOLE;

enum { MAXIMUM_DESCRIPTORS = 64 };

int cl_accept4(int descriptor) {
    return accept4(descriptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

// The socket; `use` is connect or bind.
static int make_vsock(
    unsigned int cid, unsigned int port, int kind,
    int (*use)(int, const struct sockaddr *, socklen_t)) {
    int descriptor = socket(AF_VSOCK, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    if (use(descriptor, (const struct sockaddr *)&address, sizeof address) < 0 &&
        errno != EINPROGRESS) {
        int error = errno;
        close(descriptor);
        errno = error;
        return -1;
    }
    return descriptor;
}

int cl_vsock_connect(unsigned int cid, unsigned int port, int kind) {
    return make_vsock(cid, port, kind, connect);
}

int cl_vsock_listen(unsigned int cid, unsigned int port, int kind, int backlog) {
    int descriptor = make_vsock(cid, port, kind, bind);
    if (descriptor < 0 || listen(descriptor, backlog) == 0) return descriptor;
    int error = errno;
    close(descriptor);
    errno = error;
    return -1;
}

int cl_connection_outcome(int socket) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return -1;
    if (error != 0) {
        errno = error;
        return -1;
    }
    struct sockaddr_storage peer;
    length = sizeof peer;
    if (getpeername(socket, (struct sockaddr *)&peer, &length) == 0) return 1;
    return errno == ENOTCONN ? 0 : -1;
}

int cl_memfd_create(const char *name, int allow_sealing) {
    return memfd_create(name, MFD_CLOEXEC | (allow_sealing ? MFD_ALLOW_SEALING : 0));
}

int cl_memfd_seal_shrink(int descriptor) { return fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK); }

int cl_fallocate(int descriptor, int mode, int64_t offset, int64_t length) {
    return fallocate(descriptor, mode, offset, length);
}

int cl_set_thread_name(const char *name) { return pthread_setname_np(pthread_self(), name); }

int cl_bind_thread_to_cpu(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

ssize_t cl_receive_with_descriptors(
    int socket, void *bytes, size_t length, int *descriptors, size_t capacity, size_t *count,
    int *truncated) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAXIMUM_DESCRIPTORS)];
        struct cmsghdr alignment;
    } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    *count = 0;
    *truncated = 0;
    ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (received < 0) return received;
    int overflow = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t arrived = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < arrived; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof descriptor);
            if (!overflow && *count < capacity) {
                descriptors[(*count)++] = descriptor;
            } else {
                close(descriptor);
                overflow = 1;
            }
        }
    }
    if (overflow) {
        for (size_t index = 0; index < *count; index++) close(descriptors[index]);
        *count = 0;
        *truncated = 1;
    }
    return received;
}

ssize_t cl_send_with_descriptors(
    int socket, const void *bytes, size_t length, const int *descriptors, size_t count) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * MAXIMUM_DESCRIPTORS)];
        struct cmsghdr alignment;
    } control;
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count > MAXIMUM_DESCRIPTORS) {
        errno = EINVAL;
        return -1;
    }
    if (count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

int cl_direct_io_alignment(int descriptor, uint32_t *memory, uint32_t *offset) {
    // STATX_DIOALIGN and its two fields came with Linux 6.1; older headers lack the names.
    enum { DIRECT_IO_ALIGNMENT = 0x2000 };
    struct statx status;
    memset(&status, 0, sizeof status);
    *memory = 0;
    *offset = 0;
    if (statx(descriptor, "", AT_EMPTY_PATH, DIRECT_IO_ALIGNMENT, &status) < 0) return -1;
    if ((status.stx_mask & DIRECT_IO_ALIGNMENT) == 0) return 0;
    const char *fields = (const char *)&status + 0x98;
    memcpy(memory, fields, sizeof *memory);
    memcpy(offset, fields + sizeof *memory, sizeof *offset);
    return 1;
}

int cl_block_device_geometry(
    int descriptor, uint64_t *byte_count, uint32_t *logical, uint32_t *physical) {
    int logical_size = 0;
    unsigned int physical_size = 0;
    if (ioctl(descriptor, BLKGETSIZE64, byte_count) < 0) return -1;
    if (ioctl(descriptor, BLKSSZGET, &logical_size) < 0) return -1;
    if (ioctl(descriptor, BLKPBSZGET, &physical_size) < 0) return -1;
    *logical = (uint32_t)logical_size;
    *physical = physical_size;
    return 0;
}

int cl_lock_whole_file(int descriptor, int exclusive) {
    struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    return fcntl(descriptor, F_OFD_SETLK, &lock);
}

int cl_lock_range(int descriptor, int64_t start, int64_t length, int kind, int waits) {
    static const short kinds[] = {F_RDLCK, F_WRLCK, F_UNLCK};
    struct flock lock = {
        .l_type = kinds[kind], .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(descriptor, waits ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
}

int cl_is_range_locked(int descriptor, int64_t start, int64_t length) {
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    if (fcntl(descriptor, F_OFD_GETLK, &lock) < 0) return -1;
    return lock.l_type != F_UNLCK;
}

int cl_file_system_type(int descriptor, int64_t *type) {
    struct statfs status;
    if (fstatfs(descriptor, &status) < 0) return -1;
    *type = (int64_t)status.f_type;
    return 0;
}

ssize_t cl_write_vectors(
    int descriptor, const struct iovec *vectors, int count, int64_t offset, int durable) {
    return pwritev2(descriptor, vectors, count, offset, durable ? RWF_DSYNC : 0);
}

int cl_block_device_discard(int descriptor, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return ioctl(descriptor, BLKDISCARD, range);
}

void cl_release_code_pages(void) {
    extern const char __executable_start, etext;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)&__executable_start & ~(page - 1);
    uintptr_t end = (uintptr_t)&etext & ~(page - 1);
    // Private, read-only and never written: dropping the pages loses nothing.
    if (end > start) madvise((void *)start, end - start, MADV_DONTNEED);
}

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

// The alarm of a thread. Its signal comes to that very thread, so that nothing here is shared.
static _Thread_local timer_t stall_timer;
static _Thread_local int has_stall_timer;
static _Thread_local volatile sig_atomic_t is_stall_alarm_set;
static _Thread_local volatile sig_atomic_t is_waiting_for_work;

// Async-signal-safe. A thread without work needs no alarm, and is not to be woken again.
static void end_stall(int number) {
    (void)number;
    if (!is_waiting_for_work || !has_stall_timer) return;
    int saved = errno;
    struct itimerspec never = {.it_value = {0, 0}};
    timer_settime(stall_timer, 0, &never, NULL);
    is_stall_alarm_set = 0;
    errno = saved;
}

static int create_stall_timer(void) {
    // Without SA_RESTART, so that the call ends.
    struct sigaction action = {.sa_handler = end_stall};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    sigset_t urgent;
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    if (sigaction(SIGURG, &action, NULL) < 0) return -1;
    if (timer_create(CLOCK_MONOTONIC, &event, &stall_timer) < 0) return -1;
    has_stall_timer = 1;
    pthread_sigmask(SIG_UNBLOCK, &urgent, NULL);
    return 0;
}

int cl_stall_alarm_start(int milliseconds) {
    is_waiting_for_work = 0;
    if (is_stall_alarm_set) return 0;
    if (!has_stall_timer && create_stall_timer() < 0) return -1;
    struct timespec period = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    struct itimerspec when = {.it_value = period, .it_interval = period};
    is_stall_alarm_set = 1;
    return timer_settime(stall_timer, 0, &when, NULL);
}

void cl_stall_alarm_pause(void) { is_waiting_for_work = 1; }

void cl_stall_alarm_end(void) {
    if (has_stall_timer) timer_delete(stall_timer);
    has_stall_timer = 0;
    is_stall_alarm_set = 0;
}

static unsigned long lost_page_count;

// Async-signal-safe: one system call, one atomic addition. The access that raised the signal is
// tried again when the handler returns.
static void replace_lost_page(int number, siginfo_t *information, void *context) {
    (void)context;
    long size = sysconf(_SC_PAGESIZE);
    void *page = (void *)((uintptr_t)information->si_addr & ~((uintptr_t)size - 1));
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (information->si_code == BUS_ADRERR &&
        mmap(page, (size_t)size, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED) {
        __atomic_add_fetch(&lost_page_count, 1, __ATOMIC_RELAXED);
        return;
    }
    // Not memory that can be replaced: die of it, as without a handler.
    signal(number, SIG_DFL);
    raise(number);
}

int cl_has_exact_waits(void) {
    // No descriptor has this number: EBADF where there is such a call. A seccomp filter that does not know
    // it has an errno of its own.
    struct epoll_event event;
    struct timespec none = {0, 0};
    return epoll_pwait2(-1, &event, 1, &none, NULL) < 0 && errno == EBADF;
}

int cl_epoll_wait_exactly(
    int poll, struct epoll_event *events, int capacity, int64_t nanoseconds) {
    static _Thread_local int is_exact;
    if (!is_exact) is_exact = prctl(PR_SET_TIMERSLACK, 5000UL, 0, 0, 0) == 0;
    struct timespec time = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    int count = epoll_pwait2(poll, events, capacity, &time, NULL);
    if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return count;
    return epoll_wait(poll, events, capacity, (int)((nanoseconds + 999999) / 1000000));
}

int cl_survive_lost_memory(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = replace_lost_page;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    return sigaction(SIGBUS, &action, NULL);
}

unsigned long cl_lost_page_count(void) {
    return __atomic_load_n(&lost_page_count, __ATOMIC_RELAXED);
}

int cl_give_up_rights(void) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    // What is handled and allowed by no rule is denied everywhere.
    const struct landlock_ruleset_attr attributes = {
        .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                             LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_DIR |
                             LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                             LANDLOCK_ACCESS_FS_REMOVE_DIR,
    };
    int rules = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
    if (rules < 0) return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -1;
    long outcome = syscall(SYS_landlock_restrict_self, rules, 0);
    int error = errno;
    close(rules);
    errno = error;
    return outcome == 0 ? 1 : -1;
}
