// SPDX-License-Identifier: Apache-2.0

import CGuest
import CReference
import Glibc

/// The same device in C.
final class ReferenceSide {
    private let queue: OpaquePointer
    private let memory: UnsafeMutablePointer<ref_memory>
    private let pieces: UnsafeMutablePointer<ref_pieces>
    private var sum: UInt64 = 0
    /// Keeps the memory mapped.
    private let guest: Guest

    init(_ one: Case, _ guest: Guest) {
        self.guest = guest
        let count = guest.bases.count
        let regions = UnsafeMutablePointer<ref_region>.allocate(capacity: count)
        for (index, base) in guest.bases.enumerated() {
            regions[index] = ref_region(
                start: guest_region_address(UInt32(index)),
                byte_count: UInt64(GUEST_REGION_SIZE),
                base: base?.assumingMemoryBound(to: CChar.self))
        }
        memory = .allocate(capacity: 1)
        memory.initialize(
            to: ref_memory(regions: regions, count: count, last_hit: regions, dirty_log: nil))
        pieces = .allocate(capacity: 1)
        pieces.initialize(to: ref_pieces())
        var configuration = ref_configuration(
            is_packed: one.isPacked, has_event_index: true, has_indirect: true,
            size: UInt32(GUEST_RING_SIZE),
            descriptor_area: guest.area(GUEST_DESCRIPTORS),
            driver_area: guest.area(GUEST_DRIVER_AREA),
            device_area: guest.area(GUEST_DEVICE_AREA))
        let counter = UnsafeMutablePointer<Int>.allocate(capacity: 1)
        counter.initialize(to: 0)
        queue = ref_queue_create(
            &configuration, memory,
            { $0?.assumingMemoryBound(to: Int.self).pointee += 1 }, counter)
    }

    deinit { ref_queue_destroy(queue) }

    func process() -> Int { ref_process(queue, pieces, &sum) }
}
