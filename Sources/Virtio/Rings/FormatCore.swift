// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A queue over the ring format that was negotiated: one test an operation, then static calls.
enum FormatCore: ~Copyable {
    case split(Pinned<QueueCore<SplitRing>>)
    case packed(Pinned<QueueCore<PackedRing>>)

    /// Checks the configuration, finds the ring in memory, and goes on where it says.
    init(
        _ configuration: VirtqueueConfiguration, memory: PinnedReference<RegionTable>
    ) throws(VirtqueueError) {
        let isPacked = configuration.features.contains(.ringPacked)
        let size = configuration.size
        guard size > 0, size <= 32768, isPacked || size & (size - 1) == 0 else {
            throw .illegalSize(size)
        }
        let areas = try RingAreas(configuration, memory: memory)
        let care = Care(logsRing: configuration.logsRing)
        if isPacked {
            let ring = try PackedRing(configuration, areas: areas)
            let isFresh = ring.base == 0x8000_8000
            self = .packed(
                Pinned(QueueCore(ring, memory: memory, everPublished: !isFresh, care: care)))
        } else {
            let ring = try SplitRing(configuration, areas: areas)
            let isFresh = ring.usedIndex == 0
            self = .split(
                Pinned(QueueCore(ring, memory: memory, everPublished: !isFresh, care: care)))
        }
    }
}

// MARK: Per buffer

extension FormatCore {
    // Out of line, so that the public methods above stay small enough to be inlined by devices.

    @inline(never)
    func take(_ pieces: inout IOVectorArray) -> Buffer? {
        switch self {
        case .split(let queue): queue.value.take(&pieces)
        case .packed(let queue): queue.value.take(&pieces)
        }
    }

    @inline(never)
    func put(_ used: UsedBuffer) {
        switch self {
        case .split(let queue): queue.value.put(used)
        case .packed(let queue): queue.value.put(used)
        }
    }
}
