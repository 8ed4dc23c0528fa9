// SPDX-License-Identifier: Apache-2.0

// The log of guest memory that the device writes, for live migration (vhost-user, "Migration").
//
// It is kept while VHOST_F_LOG_ALL is among the features and SET_LOG_BASE has brought a bitmap; the
// two come in either order. It is switched on when nothing is in flight, because only of buffers
// that are taken afterwards is it known where they lie; where what is in flight cannot be waited
// for, it is refused. A bitmap that takes the place of another (the guest's memory has grown, or
// Cloud Hypervisor begins the next round) does so at once: what is in flight is marked when it ends,
// in the new one, and the old one is left alone before the front-end is answered. A device reset
// switches it off; the bitmap stays, as the memory does.

import LinuxIO
import Synchronization
import SystemPackage
import Virtio

/// The log as the session's memory and its views know it, whatever bitmap there is at the time.
///
/// Any thread may mark. It is locked meanwhile, so that a bitmap that was exchanged is left alone at
/// once.
final class MigrationLog: DirtyLog, Sendable {
    private struct State {
        var bitmap: DirtyBitmap?
        var isKept = false
    }

    private let state = Mutex(State())

    /// What SET_LOG_BASE brought last.
    var bitmap: DirtyBitmap? {
        get { state.withLock { $0.bitmap } }
        set { state.withLock { $0.bitmap = newValue } }
    }

    /// Whether marks are made; queues on other threads go on to ask for them until they stop.
    var isKept: Bool {
        get { state.withLock { $0.isKept } }
        set { state.withLock { $0.isKept = newValue } }
    }

    func markDirty(_ address: GuestAddress, byteCount: UInt64) {
        state.withLock { state in
            if state.isKept { state.bitmap?.markDirty(address, byteCount: byteCount) }
        }
    }
}

extension Session {
    /// Whether writes to guest memory are logged.
    var isLogging: Bool { migrationLog.isKept }

    /// VHOST_USER_SET_LOG_BASE: another bitmap from now on.
    ///
    /// The reply is the request's payload: front-ends that look at it expect that.
    func setLogBase(
        _ area: LogArea, _ descriptors: ReceivedDescriptors, _ exchange: Exchange
    ) throws(VhostUserError) -> Outcome {
        guard let descriptor = descriptors.take() else {
            throw .illegalDescriptorCount(.setLogBase, count: descriptors.count)
        }
        let bitmap: DirtyBitmap
        do throws(Errno) {
            bitmap = DirtyBitmap(
                try MappedRegion(
                    descriptor, offset: area.offset, byteCount: area.byteCount))
        } catch {
            throw .logMappingFailed(area, error)
        }
        if features?.contains(.logAll) ?? false {
            try check(bitmap, covers: memory.guestMemory.regions)
        }
        migrationLog.bitmap = bitmap
        var writer = PayloadWriter()
        writer.append(area.byteCount)
        writer.append(area.offset)
        return try switchLogging(exchange, .reply(writer.bytes))
    }

    /// Switches the log on or off, as the features and the bitmap now say.
    ///
    /// - Returns: the outcome that was passed, or `pending`.
    func switchLogging(
        _ exchange: Exchange, _ outcome: Outcome
    ) throws(VhostUserError) -> Outcome {
        let isWanted = features?.contains(.logAll) ?? false && migrationLog.bitmap != nil
        if isWanted == isLogging { return outcome }
        guard isWanted else {
            stopLogging()
            return outcome
        }
        return try quiesce(rings, limits: options.drainLimits, exchange) {
            [self] _ throws(VhostUserError) in
            guard orphanage.queueCount == 0 else {
                features?.remove(.logAll)
                throw .unloggedRequests(queueCount: orphanage.queueCount)
            }
            memory.guestMemory.dirtyLog = migrationLog
            migrationLog.isKept = true
            return outcome
        }
    }

    /// Nothing is logged from now on.
    func stopLogging() {
        memory.guestMemory.dirtyLog = nil
        migrationLog.isKept = false
    }

    /// After a ring stopped: says so if the guest, which migrates, has stopped with it.
    func noteStop() {
        if isLogging && !isRunning && orphanage.queueCount == 0 { guestStopped() }
    }

    /// Refuses a bitmap, if there is one, that is too short for these regions: what it has no bits
    /// for would be lost.
    func checkLog(covers regions: [GuestMemory.Region]) throws(VhostUserError) {
        guard let bitmap = migrationLog.bitmap else { return }
        try check(bitmap, covers: regions)
    }

    private func check(
        _ bitmap: DirtyBitmap, covers regions: [GuestMemory.Region]
    ) throws(VhostUserError) {
        for region in regions where !bitmap.covers(region) {
            throw .logTooShort(byteCount: bitmap.byteCount, region.guestAddress)
        }
    }
}
