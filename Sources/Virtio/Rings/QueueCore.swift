// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// A buffer that was taken and neither put nor handed back.
struct OutstandingBuffer: BitwiseCopyable {
    /// Bytes that the device may write, at most 2^32 - 1.
    var writableLength: UInt32 = 0
    /// Ring entries that the buffer uses; 0 when the buffer is not outstanding.
    var entries: UInt16 = 0
    /// The id of the buffer that was taken before this one.
    var previous: UInt16 = 0
}

/// A queue over one ring format: everything of the buffer API that costs something per buffer.
///
/// The first half of a take, the fetch, is the ring's; the second half, here, does not know the
/// format. What is rare stands in `QueueCore+Care`: one test a buffer decides.
struct QueueCore<Format: Ring & ~Copyable>: ~Copyable {
    var ring: Format
    var batch: DescriptorBatch
    let memory: PinnedReference<RegionTable>

    /// By buffer id, which is any 16-bit number in a packed ring; untouched pages cost nothing.
    let outstanding = PlainTable<OutstandingBuffer>(count: 65536)
    var outstandingCount = 0
    /// The id of the buffer that was taken last.
    var lastTaken: UInt16 = 0

    /// Why the queue is broken.
    var breakage: VirtqueueError?
    /// How far the used position moved since the driver was last considered for a signal.
    var unsignalled = 0
    /// Whether anything was ever published in this ring.
    var everPublished: Bool
    /// What has to be done besides.
    var care: Care

    init(
        _ ring: consuming Format, memory: PinnedReference<RegionTable>, everPublished: Bool,
        care: consuming Care
    ) {
        batch = DescriptorBatch(longestChain: ring.longestChain)
        self.ring = ring
        self.memory = memory
        self.everPublished = everPublished
        self.care = care
    }

    /// Takes the next buffer; see `Virtqueue.take`.
    ///
    /// - Returns: nil when there is none, or the queue is broken: then `breakage` says why. (An
    ///   error that is thrown costs even the calls that succeed.)
    @inline(__always)
    mutating func take(_ pieces: inout IOVectorArray) -> Buffer? {
        if batch.position == batch.count && !refill() { return nil }
        let firstPiece = pieces.count
        var end = PieceWriter(&pieces, reserving: batch.count &- batch.position)
        let descriptors = batch.descriptors.view
        let memory = self.memory
        var index = batch.position
        var flags: UInt16 = 0
        var length: UInt64 = 0
        // Where the writable part starts: it is empty unless a descriptor says otherwise.
        var readableLength: UInt64 = 0
        var firstWritable = firstPiece
        while true {
            let descriptor = descriptors[index]
            if (descriptor.flags ^ flags) & DescriptorFlags.write != 0 {
                if !descriptor.isWritable { return takeCut(&pieces, from: firstPiece) }
                readableLength = length
                firstWritable = end.index(in: pieces)
            }
            flags = descriptor.flags
            if let next = memory.value.write(
                descriptor.address, byteCount: descriptor.length, at: end)
            {
                end = next
            } else if let next = append(index, at: end, &pieces) {
                end = next
            } else {
                return takeCut(&pieces, from: firstPiece)
            }
            length &+= UInt64(descriptor.length)
            index &+= 1
            if !descriptor.hasNext { break }
        }
        end.finish(&pieces)
        if flags & DescriptorFlags.write == 0 {
            readableLength = length
            firstWritable = pieces.count
        }
        guard length <= 1 << 32 else {
            return broken(.bufferTooLong(byteCount: length), &pieces, from: firstPiece)
        }
        let writableLength = length &- readableLength
        guard let (id, entries) = claim(until: index, writableLength: writableLength) else {
            return broken(
                .alreadyTaken(id: descriptors[index &- 1].id), &pieces, from: firstPiece)
        }
        return Buffer(
            id: id, entries: entries, pieces: (firstPiece, firstWritable, pieces.count),
            readableLength: readableLength, writableLength: writableLength)
    }

    /// Notes that the chain from `batch.position` to `end` is taken, and goes on behind it.
    ///
    /// - Returns: the buffer's id and the ring entries that it uses; nil when it is taken already.
    @inline(__always)
    private mutating func claim(
        until end: Int, writableLength: UInt64
    ) -> (id: UInt16, entries: Int)? {
        let last = batch.descriptors[end &- 1]
        let entries =
            last.isIndirect ? entriesOfTable(endingAt: end) : end &- batch.position
        let outstanding = self.outstanding.view
        guard outstanding[Int(last.id)].entries == 0 else { return nil }
        outstanding[Int(last.id)] = OutstandingBuffer(
            writableLength: UInt32(truncatingIfNeeded: min(writableLength, 0xffff_ffff)),
            entries: UInt16(truncatingIfNeeded: entries), previous: lastTaken)
        lastTaken = last.id
        outstandingCount &+= 1
        if isCareNeeded { noteTaken(last.id, entries: entries, until: end) }
        batch.position = end
        return (last.id, entries)
    }

    /// Appends a descriptor that is empty, lies in another region than the last one, or in several.
    @inline(never)
    private mutating func append(
        _ index: Int, at end: PieceWriter, _ pieces: inout IOVectorArray
    ) -> PieceWriter? {
        let descriptor = batch.descriptors[index]
        end.finish(&pieces)
        guard
            memory.value.append(
                descriptor.address, byteCount: UInt64(descriptor.length), to: &pieces)
        else { return nil }
        // What was reserved may have been used up; the rest of the batch needs as much at most.
        return PieceWriter(&pieces, reserving: batch.count &- batch.position)
    }

    /// Fetches the next batch, when the last one is used up.
    ///
    /// - Returns: false when the driver has made nothing available, or a chain that is wrong.
    @inline(never)
    private mutating func refill() -> Bool {
        guard care.isAttached, breakage == nil else { return false }
        if batch.error == nil {
            batch.position = 0
            batch.count = 0
            ring.fetch(into: &batch, memory: memory)
            if batch.count > 0 { return true }
        }
        breakage = batch.error
        return false
    }

    /// Gives a buffer back as used; see `Virtqueue.put`.
    @inline(__always)
    mutating func put(_ used: UsedBuffer) {
        let buffer = outstanding[Int(used.id)]
        precondition(buffer.entries != 0, "a buffer is put once, after it was taken")
        precondition(
            used.writtenLength <= buffer.writableLength,
            "no more is written than the writable part of a buffer holds")
        outstanding[Int(used.id)] = OutstandingBuffer()
        outstandingCount &-= 1
        if isCareNeeded {
            putWithCare(used, entries: Int(buffer.entries))
        } else {
            ring.put(
                id: used.id, entries: Int(buffer.entries), writtenLength: used.writtenLength)
        }
    }

    /// Publishes what was put; see `Virtqueue.flush`.
    ///
    /// - Returns: whether somebody waits for the queue to drain.
    @inline(__always)
    mutating func flush() -> Bool {
        if isCareNeeded { return flushWithCare() }
        let moved = ring.publish()
        unsignalled &+= moved
        if moved != 0 { everPublished = true }
        return false
    }

    /// Whether the driver is to be signalled for what was published since this was last asked.
    @inline(__always)
    mutating func takeSignal() -> Bool {
        let moved = unsignalled
        if moved == 0 || !care.isAttached { return false }
        unsignalled = 0
        return ring.wantsSignal(moved: moved)
    }

    /// Whether more has to be done than the bare work.
    @inline(__always)
    private var isCareNeeded: Bool {
        mutating get { care.isNeeded || memory.value.dirtyLog.isSet }
    }
}

// MARK: Off the straight path

extension QueueCore where Format: ~Copyable {
    /// Ring entries of a chain that ends in an indirect table: those before it, and one.
    @inline(never)
    private mutating func entriesOfTable(endingAt end: Int) -> Int {
        var entries = 1
        for index in batch.position..<end where !batch.descriptors[index].isIndirect {
            entries += 1
        }
        return entries
    }

    /// Takes a buffer of which not every part can be reached, or breaks the queue at it.
    @inline(never)
    private mutating func takeCut(
        _ pieces: inout IOVectorArray, from firstPiece: Int
    ) -> Buffer? {
        pieces.truncate(to: firstPiece)
        var index = batch.position
        let readable = appendReachable(of: &index, isWritable: false, &pieces)
        let firstWritable = pieces.count
        let writable = appendReachable(of: &index, isWritable: true, &pieces)
        let last = batch.descriptors[index - 1]
        if last.hasNext {
            return broken(
                .readableAfterWritable(id: batch.descriptors[index].id), &pieces, from: firstPiece)
        }
        let length = readable.length + writable.length
        guard length <= 1 << 32 else {
            return broken(.bufferTooLong(byteCount: length), &pieces, from: firstPiece)
        }
        guard let (id, entries) = claim(until: index, writableLength: writable.reachable) else {
            return broken(.alreadyTaken(id: last.id), &pieces, from: firstPiece)
        }
        return Buffer(
            id: id, entries: entries, pieces: (firstPiece, firstWritable, pieces.count),
            readableLength: readable.reachable, writableLength: writable.reachable,
            isCut: readable.reachable + writable.reachable != length)
    }

    /// Appends the pieces of the descriptors from `index` on that may be written, or that may be
    /// read, up to the first that cannot be reached; `index` goes behind the last one.
    ///
    /// - Returns: bytes in all, and bytes that can be reached.
    private mutating func appendReachable(
        of index: inout Int, isWritable: Bool, _ pieces: inout IOVectorArray
    ) -> (length: UInt64, reachable: UInt64) {
        var length: UInt64 = 0
        var reachable: UInt64 = 0
        while index == batch.position || batch.descriptors[index - 1].hasNext {
            let descriptor = batch.descriptors[index]
            guard descriptor.isWritable == isWritable else { break }
            let byteCount = UInt64(descriptor.length)
            if reachable == length,
                memory.value.append(descriptor.address, byteCount: byteCount, to: &pieces)
            {
                reachable += byteCount
            }
            length += byteCount
            index += 1
        }
        return (length, reachable)
    }

    /// Breaks the queue at a buffer.
    @inline(never)
    private mutating func broken(
        _ error: VirtqueueError, _ pieces: inout IOVectorArray, from firstPiece: Int
    ) -> Buffer? {
        pieces.truncate(to: firstPiece)
        forgetBatch()
        breakage = error
        return nil
    }

    /// Forgets what was fetched and not taken; it will be fetched again.
    mutating func forgetBatch() {
        let untaken = batch.untaken
        ring.rewind(buffers: untaken.buffers, entries: untaken.entries)
        batch.discard()
    }

    /// Hands back the last `count` buffers; see `Virtqueue.handBack`.
    mutating func handBack(_ count: Int) {
        precondition(
            count >= 0 && count <= outstandingCount, "only what was taken can be handed back")
        if count == 0 { return }
        // The whole batch goes back, not only what was taken: else the ring would go on after it.
        forgetBatch()
        var entries = 0
        for _ in 0..<count {
            let buffer = outstanding[Int(lastTaken)]
            precondition(buffer.entries != 0, "what is handed back was not put")
            outstanding[Int(lastTaken)] = OutstandingBuffer()
            noteHandedBack(lastTaken)
            entries += Int(buffer.entries)
            lastTaken = buffer.previous
        }
        outstandingCount -= count
        ring.rewind(buffers: count, entries: entries)
    }

    /// The positions as GET_VRING_BASE reports them: from the first buffer that was not taken.
    var base: UInt32 {
        mutating get {
            forgetBatch()
            return ring.base
        }
    }

    @inline(__always)
    mutating func suppressNotifications() {
        guard care.isAttached else { return }
        ring.suppressNotifications()
        if memory.value.dirtyLog.isSet { noteNotificationField() }
    }

    @inline(__always)
    mutating func requestNotifications() -> Bool {
        guard care.isAttached, breakage == nil else { return false }
        // What was prefetched is available; so is an error, once.
        if batch.position != batch.count || batch.error != nil { return true }
        let isMore = ring.requestNotifications()
        if memory.value.dirtyLog.isSet { noteNotificationField() }
        return isMore
    }

    /// Whether a take would find something, be it an error; see `Virtqueue.hasAvailable`.
    @inline(__always)
    var hasAvailable: Bool {
        guard care.isAttached, breakage == nil else { return false }
        return batch.position != batch.count || batch.error != nil || ring.hasAvailable
    }
}
