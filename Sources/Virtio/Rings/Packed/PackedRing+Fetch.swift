// SPDX-License-Identifier: Apache-2.0

extension PackedRing {
    /// Fetches whole chains (virtio 1.3 §2.8.21.2), as many as the batch takes.
    @inline(__always)
    mutating func fetch(
        into batch: inout DescriptorBatch, memory: PinnedReference<RegionTable>
    ) {
        let ring = self.ring
        let descriptors = batch.descriptors.view
        var index = nextAvailable.index
        // AVAIL and USED of an available descriptor; both flip with the wrap counter.
        var wanted = PackedFlags.available(nextAvailable.wrap)
        // Entries that the driver may have made available: those that it has seen used.
        var room = size &- publishedUsed.distance(to: nextAvailable, size: size)
        var count = 0
        while room > 0 && count < DescriptorBatch.threshold {
            // Flags, id and length are one load, so that they belong together; it acquires the
            // address, and the descriptors that follow in the chain. x86-64: a plain load. arm64:
            // LDAR.
            let word = DescriptorWord(rawValue: ring.loadAcquiring64(at: 16 &* index &+ 8))
            guard word.rawValue & PackedFlags.bothInWord == wanted else { break }
            let flags = word.fourth
            var entries = 1
            if flags & (DescriptorFlags.next | DescriptorFlags.indirect) == 0 {
                descriptors[count] = Descriptor(
                    address: ring.descriptorAddress(index), packed: word)
                count &+= 1
            } else {
                let chain = fetchChain(
                    at: index, word, into: &batch, at: count, room: room, memory: memory)
                entries = chain.entries
                if entries == 0 { break }
                count &+= chain.added
            }
            room &-= entries
            index &+= entries
            if index >= size {
                index &-= size
                wanted ^= PackedFlags.bothInWord
            }
        }
        batch.count = count
        nextAvailable = PackedPosition(
            index: index, wrap: wanted == PackedFlags.available(true))
    }

    /// Fetches a chain of several descriptors and up to `room` entries, of the first of which the
    /// second half was loaded already.
    ///
    /// - Returns: ring entries and descriptors that were added at `start`; none when the chain is
    ///   wrong and the error is in the batch.
    @inline(never)
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
                address: address, packed: word)
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
        guard
            let area = indirectTables.open(
                address, byteCount: word.length, flags: word.fourth, memory: memory,
                error: &batch.error)
        else { return 0 }
        return Self.copyTable(
            area, count: Int(word.length / 16), id: word.third, into: &batch, at: start)
    }

    /// Copies an indirect table; of its flags only WRITE means something, of its ids none.
    @inline(__always)
    private static func copyTable(
        _ area: SharedArea, count: Int, id: UInt16, into batch: inout DescriptorBatch,
        at start: Int
    ) -> Int {
        let descriptors = batch.descriptors.view
        var index = 0
        while true {
            let word = area.descriptorWord(index)
            guard word.fourth & DescriptorFlags.indirect == 0 else {
                batch.error = .nestedIndirect
                return 0
            }
            let flags = word.fourth & DescriptorFlags.write | DescriptorFlags.indirect
            let isLast = index &+ 1 == count
            descriptors[start &+ index] = Descriptor(
                address: area.descriptorAddress(index), length: word.length, id: id,
                flags: isLast ? flags : flags | DescriptorFlags.next)
            index &+= 1
            if isLast { return count }
        }
    }
}
