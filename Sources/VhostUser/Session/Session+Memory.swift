// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

extension Session {
    /// VHOST_USER_SET_MEM_TABLE: another table, whole.
    ///
    /// The new one is mapped before the old one goes, so that a refusal changes nothing.
    func setMemoryTable(
        _ table: [RegionDescription], _ descriptors: ReceivedDescriptors, _ exchange: Exchange
    ) throws(VhostUserError) -> Outcome {
        if isLogging { try checkLog(covers: table.map(\.region)) }
        let replacement = try MemoryTable.map(table, descriptors: descriptors)
        return try quiesce(rings, limits: options.drainLimits, exchange) { [self] _ in
            replacement.dirtyLog = memory.guestMemory.dirtyLog
            // What is still in flight keeps the old mappings.
            memory.replace(with: replacement)
            return .done
        }
    }

    /// VHOST_USER_ADD_MEM_REG.
    ///
    /// Running rings run on, and those that waited for memory start. Acknowledged when the threads
    /// of all queues know the region.
    func addMemoryRegion(
        _ region: RegionDescription, _ descriptors: ReceivedDescriptors, _ exchange: Exchange
    ) throws(VhostUserError) -> Outcome {
        guard let descriptor = descriptors.take() else {
            throw .illegalDescriptorCount(.addMemoryRegion, count: descriptors.count)
        }
        if isLogging { try checkLog(covers: [region.region]) }
        try memory.add(region, descriptor: descriptor)
        startReadyRings()
        let followers = rings.filter { $0.isServedElsewhere && $0.isRunning }
        if followers.isEmpty { return .done }
        var awaited = followers.count
        for ring in followers {
            ring.follow(memory.guestMemory) { [self] in
                awaited -= 1
                if awaited == 0 { regionIsKnown(exchange) }
            }
        }
        return .pending
    }

    private func regionIsKnown(_ exchange: Exchange) {
        if isEnding { return }
        conclude(exchange, .done)
        connection.release()
    }

    /// VHOST_USER_REM_MEM_REG: acknowledged when nothing in flight can touch the region.
    func removeMemoryRegion(
        _ region: RegionDescription, _ exchange: Exchange
    ) throws(VhostUserError) -> Outcome {
        guard memory.contains(region) else { throw .noSuchRegion(region.region.guestAddress) }
        return try quiesce(rings, limits: options.drainLimits, exchange) {
            [self] _ throws(VhostUserError) in
            if orphanage.uses(memory.guestMemory) {
                throw .regionInUse(region.region.guestAddress)
            }
            memory.remove(region)
            return .done
        }
    }
}
