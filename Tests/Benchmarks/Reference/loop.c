// SPDX-License-Identifier: Apache-2.0
//
// A device over the reference: takes all there is and gives it back. A file of its own, as the device that
// it is compared with is a module of its own: in neither case does a device see into the queue.

#include "queue.h"

enum { BATCH = 64 };

size_t ref_process(struct ref_queue *queue, struct ref_pieces *pieces, uint64_t *sum) {
    size_t total = 0;
    do {
        ref_suppress_notifications(queue);
        for (;;) {
            struct ref_buffer buffers[BATCH];
            size_t count = 0;
            pieces->count = 0;
            while (count < BATCH && ref_take(queue, pieces, &buffers[count]) > 0) count++;
            if (count == 0) break;
            for (size_t index = 0; index < count; index++) {
                const struct ref_buffer *buffer = &buffers[index];
                *sum += buffer->readable_length + buffer->writable_piece_count;
                ref_put(queue, (struct ref_used){buffer->id, (uint32_t)buffer->writable_length});
            }
            ref_flush(queue);
            ref_signal(queue);
            total += count;
        }
    } while (ref_request_notifications(queue));
    return total;
}
