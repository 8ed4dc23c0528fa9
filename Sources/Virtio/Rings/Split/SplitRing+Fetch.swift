// SPDX-License-Identifier: Apache-2.0

extension SplitRing {
    /// Fetches whole chains (virtio 1.3 §2.7.13), as many as the batch takes.
    @inline(__always)
    mutating func fetch(
        into batch: inout DescriptorBatch, memory: PinnedReference<RegionTable>
    ) {
        // Acquires the entries and descriptors that the driver wrote before. x86-64: a plain load.
        // arm64: LDARH.
        let end = available.loadAcquiring16(at: Self.indexOffset)
        var next = nextAvailable
        // Used buffers that the driver has not been shown yet are not its own to offer again.
        guard Int(end &- next) &+ unpublishedCount <= size else {
            batch.error = .availableIndexJump(from: next, to: end, size: size)
            return
        }
        let table = self.table
        let available = self.available
        let descriptors = batch.descriptors.view
        let limit = UInt16(truncatingIfNeeded: size &- 1)
        var count = 0
        while next != end && count < DescriptorBatch.threshold {
            let head = available.load16(at: Self.availableOffset(next & mask))
            guard head <= limit else {
                batch.error = .headOutOfRange(index: head, size: size)
                break
            }
            let address = table.descriptorAddress(Int(head))
            let word = table.descriptorWord(Int(head))
            if word.third & (DescriptorFlags.next | DescriptorFlags.indirect) == 0 {
                descriptors[count] = Descriptor(
                    address: address, length: word.length, id: head, flags: word.third)
                count &+= 1
            } else {
                let added = fetchChain(head, into: &batch, at: count, memory: memory)
                if added == 0 { break }
                count &+= added
            }
            next &+= 1
        }
        batch.count = count
        nextAvailable = next
    }

    /// Fetches a chain of several descriptors.
    ///
    /// - Returns: how many were added at `start`; 0 when the chain is wrong and the error is in the
    ///   batch.
    @inline(never)
    private mutating func fetchChain(
        _ head: UInt16, into batch: inout DescriptorBatch, at start: Int,
        memory: PinnedReference<RegionTable>
    ) -> Int {
        var index = head
        var added = 0
        while true {
            let address = table.descriptorAddress(Int(index))
            let word = table.descriptorWord(Int(index))
            let flags = word.third
            if flags & DescriptorFlags.indirect != 0 {
                return fetchTable(
                    address, word, head: head, into: &batch, after: added, at: start,
                    memory: memory)
            }
            batch.descriptors[start &+ added] = Descriptor(
                address: address, length: word.length, id: head, flags: word.third)
            added &+= 1
            if flags & DescriptorFlags.next == 0 { return added }
            index = word.fourth
            guard Int(index) < size else {
                batch.error = .nextOutOfRange(index: index, limit: size)
                return 0
            }
            guard added < size else {
                batch.error = .chainTooLong(limit: size)
                return 0
            }
        }
    }

    /// Fetches the chain in the indirect table that ends a chain of `added` descriptors.
    private mutating func fetchTable(
        _ address: UInt64, _ word: DescriptorWord, head: UInt16,
        into batch: inout DescriptorBatch, after added: Int, at start: Int,
        memory: PinnedReference<RegionTable>
    ) -> Int {
        guard
            let area = indirectTables.open(
                address, byteCount: word.length, flags: word.third, memory: memory,
                error: &batch.error)
        else { return 0 }
        let length = Self.copyChain(
            of: area, count: Int(word.length / 16), head: head, into: &batch, at: start &+ added)
        return length == 0 ? 0 : added &+ length
    }

    /// Copies the chain that starts with the first descriptor of an indirect table.
    ///
    /// - Returns: how many descriptors it has; 0 when it is wrong and the error is in the batch.
    @inline(__always)
    private static func copyChain(
        of area: SharedArea, count: Int, head: UInt16, into batch: inout DescriptorBatch,
        at start: Int
    ) -> Int {
        let descriptors = batch.descriptors.view
        var index = 0
        var added = 0
        while true {
            let address = area.descriptorAddress(index)
            let word = area.descriptorWord(index)
            let flags = word.third
            guard flags & DescriptorFlags.indirect == 0 else {
                batch.error = .nestedIndirect
                return 0
            }
            descriptors[start &+ added] = Descriptor(
                address: address, length: word.length, id: head,
                flags: flags | DescriptorFlags.indirect)
            added &+= 1
            if flags & DescriptorFlags.next == 0 { return added }
            index = Int(word.fourth)
            guard index < count else {
                batch.error = .nextOutOfRange(index: word.fourth, limit: count)
                return 0
            }
            guard added < count else {
                batch.error = .chainTooLong(limit: count)
                return 0
            }
        }
    }
}
