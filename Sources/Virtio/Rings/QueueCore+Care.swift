// SPDX-License-Identifier: Apache-2.0

/// What has to be done besides moving buffers: a journal, a dirty log, a ring whose memory is gone.
struct Care: ~Copyable {
    /// Whether `QueueCore` has to ask any further.
    private(set) var isNeeded = false
    /// Whether the ring lies in mapped memory.
    var isAttached = true { didSet { update() } }
    /// Whether somebody waits for the queue to drain.
    var isDrainAwaited = false { didSet { update() } }
    /// Whether writes to the ring itself are recorded in the dirty log.
    var logsRing: Bool
    /// Buffers that were put while the ring was not attached.
    var parked: [(used: UsedBuffer, entries: Int)] = []
    /// Where the writable parts of outstanding buffers lie, while there is a dirty log; by id.
    var writableStretches: [UInt16: [(address: UInt64, byteCount: UInt64)]] = [:]

    private(set) var journal = Hook<any InflightJournal>()
    /// Buffers that were put and not published, for the journal.
    var journalled: [UsedBuffer] = []

    init(logsRing: Bool) {
        self.logsRing = logsRing
    }

    mutating func setJournal(_ journal: (any InflightJournal)?) {
        self.journal = Hook(journal)
        update()
    }

    private mutating func update() {
        isNeeded = !isAttached || isDrainAwaited || journal.isSet
    }
}

extension QueueCore where Format: ~Copyable {
    /// Remembers a buffer that was taken: `batch.position` to `end`.
    @inline(never)
    mutating func noteTaken(_ id: UInt16, entries: Int, until end: Int) {
        care.journal.withTarget {
            $0.bufferTaken(id: id, descriptorCount: UInt16(truncatingIfNeeded: entries))
        }
        guard memory.value.dirtyLog.isSet else { return }
        var stretches: [(address: UInt64, byteCount: UInt64)] = []
        for index in batch.position..<end {
            let descriptor = batch.descriptors[index]
            if descriptor.isWritable && descriptor.length > 0 {
                stretches.append((descriptor.address, UInt64(descriptor.length)))
            }
        }
        care.writableStretches[id] = stretches
    }

    func noteHandedBackToJournal(_ id: UInt16) {
        care.journal.withTarget { $0.bufferHandedBack(id: id) }
    }

    mutating func noteHandedBack(_ id: UInt16) {
        noteHandedBackToJournal(id)
        if !care.writableStretches.isEmpty { care.writableStretches[id] = nil }
    }

    /// Marks what was written, and remembers the buffer for the journal; sets it aside when there
    /// is no ring to put it into.
    @inline(never)
    mutating func putWithCare(_ used: UsedBuffer, entries: Int) {
        markWritten(used)
        guard care.isAttached else {
            care.parked.append((used, entries))
            return
        }
        if care.journal.isSet { care.journalled.append(used) }
        ring.put(id: used.id, entries: entries, writtenLength: used.writtenLength)
    }

    /// Marks the first `writtenLength` bytes of the writable part as dirty.
    private mutating func markWritten(_ used: UsedBuffer) {
        guard let stretches = care.writableStretches.removeValue(forKey: used.id) else { return }
        var left = UInt64(used.writtenLength)
        for stretch in stretches where left > 0 {
            let byteCount = min(left, stretch.byteCount)
            memory.value.dirtyLog.withTarget {
                $0.markDirty(GuestAddress(stretch.address), byteCount: byteCount)
            }
            left -= byteCount
        }
    }

    /// Publishes with the journal told before and after, and the ring's own pages marked.
    ///
    /// - Returns: whether somebody waits for the queue to drain.
    @inline(never)
    mutating func flushWithCare() -> Bool {
        if care.isAttached { publishWithCare() }
        return care.isDrainAwaited
    }

    private mutating func publishWithCare() {
        let used = care.journalled
        if !used.isEmpty { care.journal.withTarget { $0.willPublish(used.span) } }
        let moved = ring.publish()
        unsignalled += moved
        if moved == 0 { return }
        everPublished = true
        noteWrites { body in ring.forEachPublished(moved, body) }
        if !used.isEmpty {
            care.journal.withTarget { $0.didPublish(used.span, usedIndex: ring.usedIndex) }
            care.journalled.removeAll(keepingCapacity: true)
        }
    }

    /// Marks the event field that was just written.
    @inline(never)
    mutating func noteNotificationField() {
        noteWrites { ring.forEachNotificationField($0) }
    }

    private func noteWrites(_ stretches: ((GuestAddress, UInt64) -> Void) -> Void) {
        guard care.logsRing else { return }
        memory.value.dirtyLog.withTarget { log in
            stretches { address, byteCount in log.markDirty(address, byteCount: byteCount) }
        }
    }

    /// The ring lies at `areas` now, or nowhere; what was set aside goes into it.
    mutating func move(to areas: RingAreas?) {
        // What was fetched came from where the ring lay before.
        forgetBatch()
        care.isAttached = areas != nil
        guard let areas else { return }
        ring.move(to: areas)
        let parked = care.parked
        care.parked = []
        for (used, entries) in parked {
            if care.journal.isSet { care.journalled.append(used) }
            ring.put(id: used.id, entries: entries, writtenLength: used.writtenLength)
        }
    }

    /// Whether nothing is outstanding and nothing waits to be published.
    ///
    /// What was put into a ring that is gone will never be.
    var isDrained: Bool { outstandingCount == 0 && (ring.isPublished || !care.isAttached) }
}
