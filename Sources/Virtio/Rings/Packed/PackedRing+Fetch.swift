// SPDX-License-Identifier: Apache-2.0

extension PackedRing {
    /// Fetches whole chains (virtio 1.3 §2.8.21.2), as many as the batch takes.
    @inline(__always)
    mutating func fetch(
        into batch: inout DescriptorBatch, memory: PinnedReference<RegionTable>
    ) {
        var next = nextAvailable
        var wanted = PackedFlags.available(next.wrap)
        // Entries that the driver may have made available: those that we do not have already.
        var room = size &- nextUsed.distance(to: next, size: size)
        var count = 0
        while room > 0 && count < DescriptorBatch.threshold {
            let offset = 16 &* next.index
            // Flags, id and length are one load, so that they belong together; it acquires the
            // address, and the descriptors that follow in the chain. x86-64: a plain load. arm64:
            // LDAR.
            let high = ring.loadAcquiring64(at: offset &+ 8)
            guard high & PackedFlags.bothInWord == wanted else { break }
            let word = DescriptorWord(rawValue: high)
            let flags = word.fourth
            var entries = 1
            if flags & (DescriptorFlags.next | DescriptorFlags.indirect) == 0 {
                batch.descriptors[count] = Descriptor(
                    address: ring.load64(at: offset), length: word.length, flags: flags,
                    id: word.third)
                count &+= 1
            } else {
                let chain = fetchChain(
                    at: next.index, word, into: &batch, at: count, room: room, memory: memory)
                entries = chain.entries
                if entries == 0 { break }
                count &+= chain.added
            }
            room &-= entries
            next.advance(by: entries, size: size)
            wanted = PackedFlags.available(next.wrap)
        }
        batch.count = count
        nextAvailable = next
    }

    /// Fetches a chain of several descriptors and up to `room` entries, of the first of which the
    /// second half was loaded already.
    ///
    /// - Returns: ring entries and descriptors that were added at `start`; none when the chain is
    ///   wrong and the error is in the batch.
    private mutating func fetchChain(
        at index: Int, _ word: DescriptorWord, into batch: inout DescriptorBatch, at start: Int,
        room: Int, memory: PinnedReference<RegionTable>
    ) -> (entries: Int, added: Int) {
        var index = index
        var word = word
        var entries = 0
        while true {
            let address = ring.descriptorAddress(index)
            let flags = word.fourth
            if flags & DescriptorFlags.indirect != 0 {
                let length = fetchTable(
                    address, word, into: &batch, at: start &+ entries, memory: memory)
                return length == 0 ? (0, 0) : (entries &+ 1, entries &+ length)
            }
            batch.descriptors[start &+ entries] = Descriptor(
                address: address, length: word.length, flags: flags, id: word.third)
            entries &+= 1
            if flags & DescriptorFlags.next == 0 { return (entries, entries) }
            guard entries < room else {
                batch.error = .chainTooLong(limit: room)
                return (0, 0)
            }
            index = index &+ 1 == size ? 0 : index &+ 1
            word = ring.descriptorWord(index)
        }
    }

    /// Fetches the descriptors of an indirect table, every one of them (virtio 1.3 §2.8.7).
    ///
    /// - Returns: how many there are; 0 when the table is wrong and the error is in the batch.
    private mutating func fetchTable(
        _ address: UInt64, _ word: DescriptorWord, into batch: inout DescriptorBatch,
        at start: Int, memory: PinnedReference<RegionTable>
    ) -> Int {
        do throws(VirtqueueError) {
            let area = try indirectTables.open(
                address, byteCount: word.length, flags: word.fourth, memory: memory)
            let count = Int(word.length / 16)
            try Self.copyTable(area, count: count, id: word.third, into: &batch, at: start)
            return count
        } catch {
            batch.error = error
            return 0
        }
    }

    /// Copies an indirect table; of its flags only WRITE means something, of its ids none.
    private static func copyTable(
        _ area: SharedArea, count: Int, id: UInt16, into batch: inout DescriptorBatch,
        at start: Int
    ) throws(VirtqueueError) {
        for index in 0..<count {
            let word = area.descriptorWord(index)
            guard word.fourth & DescriptorFlags.indirect == 0 else { throw .nestedIndirect }
            let isLast = index &+ 1 == count
            let flags = word.fourth & DescriptorFlags.write | DescriptorFlags.indirect
            batch.descriptors[start &+ index] = Descriptor(
                address: area.descriptorAddress(index), length: word.length,
                flags: isLast ? flags : flags | DescriptorFlags.next, id: id)
        }
    }
}
