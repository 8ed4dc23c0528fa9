// SPDX-License-Identifier: Apache-2.0
//
// libiscsi is loaded when the first unit at an iSCSI target is configured, not when the program starts: it
// brings libraries for RDMA and for cryptography along, 6 MiB that a machine without such a unit need not
// hold. Each function here passes its arguments on to the one of the same name in the library. They are
// hidden, so that the library's calls of its own functions do not end up here.
#include "CLibiscsi.h"

#include <dlfcn.h>
#include <pthread.h>

// The version whose headers this was compiled with decides how struct scsi_task is laid out.
#define LIBRARY "libiscsi.so.7"

#define HIDDEN __attribute__((visibility("hidden")))

#define FUNCTIONS(F)                                                                              \
    F(struct iscsi_context *, iscsi_create_context, (const char *a), (a))                         \
    F(int, iscsi_destroy_context, (struct iscsi_context *a), (a))                                 \
    F(const char *, iscsi_get_error, (struct iscsi_context *a), (a))                              \
    F(int, iscsi_get_fd, (struct iscsi_context *a), (a))                                          \
    F(const char *, iscsi_get_target_address, (struct iscsi_context *a), (a))                     \
    F(int, iscsi_is_logged_in, (struct iscsi_context *a), (a))                                    \
    F(int, iscsi_out_queue_length, (struct iscsi_context *a), (a))                                \
    F(int, iscsi_which_events, (struct iscsi_context *a), (a))                                    \
    F(int, iscsi_service, (struct iscsi_context *a, int b), (a, b))                               \
    F(int, iscsi_connect_async,                                                                   \
      (struct iscsi_context *a, const char *b, iscsi_command_cb c, void *d), (a, b, c, d))        \
    F(int, iscsi_login_async, (struct iscsi_context *a, iscsi_command_cb b, void *c), (a, b, c))  \
    F(int, iscsi_logout_async, (struct iscsi_context *a, iscsi_command_cb b, void *c), (a, b, c)) \
    F(int, iscsi_nop_out_async,                                                                   \
      (struct iscsi_context *a, iscsi_command_cb b, unsigned char *c, int d, void *e),            \
      (a, b, c, d, e))                                                                            \
    F(int, iscsi_scsi_cancel_task, (struct iscsi_context *a, struct scsi_task *b), (a, b))        \
    F(int, iscsi_scsi_command_async,                                                              \
      (struct iscsi_context *a, int b, struct scsi_task *c, iscsi_command_cb d,                   \
       struct iscsi_data *e, void *f),                                                            \
      (a, b, c, d, e, f))                                                                         \
    F(int, iscsi_task_mgmt_async,                                                                 \
      (struct iscsi_context *a, int b, enum iscsi_task_mgmt_funcs c, uint32_t d, uint32_t e,      \
       iscsi_command_cb f, void *g),                                                              \
      (a, b, c, d, e, f, g))                                                                      \
    F(int, iscsi_set_header_digest,                                                               \
      (struct iscsi_context *a, enum iscsi_header_digest b), (a, b))                              \
    F(int, iscsi_set_initiator_username_pwd,                                                      \
      (struct iscsi_context *a, const char *b, const char *c), (a, b, c))                         \
    F(int, iscsi_set_target_username_pwd,                                                         \
      (struct iscsi_context *a, const char *b, const char *c), (a, b, c))                         \
    F(int, iscsi_set_isid_random, (struct iscsi_context *a, uint32_t b, uint32_t c), (a, b, c))   \
    F(int, iscsi_set_session_type,                                                                \
      (struct iscsi_context *a, enum iscsi_session_type b), (a, b))                               \
    F(int, iscsi_set_targetname, (struct iscsi_context *a, const char *b), (a, b))                \
    F(int, iscsi_set_timeout, (struct iscsi_context *a, int b), (a, b))

// Functions without a result.
#define PROCEDURES(F)                                                                             \
    F(iscsi_set_log_fn, (struct iscsi_context *a, iscsi_log_fn b), (a, b))                        \
    F(iscsi_set_log_level, (struct iscsi_context *a, int b), (a, b))                              \
    F(iscsi_set_noautoreconnect, (struct iscsi_context *a, int b), (a, b))                        \
    F(iscsi_set_tcp_user_timeout, (struct iscsi_context *a, int b), (a, b))                       \
    F(scsi_task_set_iov_in, (struct scsi_task *a, struct scsi_iovec *b, int c), (a, b, c))        \
    F(scsi_task_set_iov_out, (struct scsi_task *a, struct scsi_iovec *b, int c), (a, b, c))

#define FUNCTION(result, name, parameters, arguments)                                             \
    static result(*load_##name) parameters;                                                       \
    HIDDEN result name parameters { return load_##name arguments; }
#define PROCEDURE(name, parameters, arguments)                                                    \
    static void(*load_##name) parameters;                                                         \
    HIDDEN void name parameters { load_##name arguments; }

FUNCTIONS(FUNCTION)
PROCEDURES(PROCEDURE)

#define FIND(name)                                                                                \
    *(void **)(&load_##name) = dlsym(library, #name);                                             \
    if (!load_##name) return;
#define FIND_FUNCTION(result, name, parameters, arguments) FIND(name)
#define FIND_PROCEDURE(name, parameters, arguments) FIND(name)

static int is_loaded;

static void load(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    FUNCTIONS(FIND_FUNCTION)
    PROCEDURES(FIND_PROCEDURE)
    is_loaded = 1;
}

int cl_iscsi_load(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return is_loaded ? 0 : -1;
}
