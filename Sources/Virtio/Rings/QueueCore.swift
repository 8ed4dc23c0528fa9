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
                if !descriptor.isWritable { return failed(at: index, &pieces, from: firstPiece) }
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
                return failed(at: index, &pieces, from: firstPiece)
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
        let id = descriptors[index &- 1].id
        let entries =
            flags & DescriptorFlags.indirect != 0
            ? entriesOfTable(endingAt: index) : index &- batch.position
        let outstanding = self.outstanding.view
        guard length <= 1 << 32, outstanding[Int(id)].entries == 0 else {
            return refused(length, id, &pieces, from: firstPiece)
        }
        let writableLength = length &- readableLength
        outstanding[Int(id)] = OutstandingBuffer(
            writableLength: UInt32(truncatingIfNeeded: min(writableLength, 0xffff_ffff)),
            entries: UInt16(truncatingIfNeeded: entries), previous: lastTaken)
        lastTaken = id
        outstandingCount &+= 1
        if isCareNeeded { noteTaken(id, entries: entries, until: index) }
        batch.position = index
        return Buffer(
            id: id, entries: entries, pieces: (firstPiece, firstWritable, pieces.count),
            readableLength: readableLength, writableLength: writableLength)
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

    /// Breaks the queue at a buffer of which the descriptor at `index` is wrong.
    @inline(never)
    private mutating func failed(
        at index: Int, _ pieces: inout IOVectorArray, from firstPiece: Int
    ) -> Buffer? {
        let descriptor = batch.descriptors[index]
        let isInOrder =
            descriptor.isWritable || index == batch.position
            || !batch.descriptors[index - 1].isWritable
        return broken(
            isInOrder
                ? .bufferOutsideMemory(
                    GuestAddress(descriptor.address), byteCount: descriptor.length)
                : .readableAfterWritable(id: descriptor.id), &pieces, from: firstPiece)
    }

    /// Breaks the queue at a buffer that is too long, or taken already.
    @inline(never)
    private mutating func refused(
        _ byteCount: UInt64, _ id: UInt16, _ pieces: inout IOVectorArray, from firstPiece: Int
    ) -> Buffer? {
        broken(
            byteCount > 1 << 32 ? .bufferTooLong(byteCount: byteCount) : .alreadyTaken(id: id),
            &pieces, from: firstPiece)
    }

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
}
