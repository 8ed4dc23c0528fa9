// SPDX-License-Identifier: Apache-2.0

/// What a driver remembers of the buffers that it added, by buffer id.
struct InFlightBuffers {
    /// A buffer that was added.
    struct Entry {
        let chain: Chain
        let tag: Int
        /// Entries of the descriptor table that the chain uses (split alone).
        let descriptors: [UInt16]
        /// Entries of the ring that the chain uses.
        let descriptorCount: Int
        /// Whether the driver knows what the chain looks like.
        let isRaw: Bool
    }

    private var entries: [Entry?]
    private let inOrder: Bool
    private var order: [UInt16]
    private var oldest = 0
    private(set) var count = 0

    init(size: Int, inOrder: Bool) {
        entries = Array(repeating: nil, count: size)
        order = inOrder ? Array(repeating: 0, count: size) : []
        self.inOrder = inOrder
    }

    mutating func insert(_ entry: Entry, id: UInt16) {
        precondition(entries[Int(id)] == nil, "a buffer id is used by one buffer at a time")
        entries[Int(id)] = entry
        if inOrder { order[(oldest + count) % order.count] = id }
        count += 1
    }

    /// Removes what came back: one buffer, or in order all up to that one.
    mutating func remove(
        id: UInt32, length: UInt32
    ) throws(DeviceFault) -> [(entry: Entry, buffer: ReapedBuffer)] {
        guard id < entries.count, let named = entries[Int(id)] else {
            throw .notInFlight(id: id)
        }
        let limit = named.chain.writableLength
        if !named.isRaw && UInt64(length) > limit {
            throw .writtenTooMuch(id: UInt16(id), length: length, limit: limit)
        }
        guard inOrder else { return [pop(UInt16(id), named, length: length)] }
        var popped: [(entry: Entry, buffer: ReapedBuffer)] = []
        while true {
            let next = order[oldest]
            oldest = (oldest + 1) % order.count
            // An entry that was skipped counts as used completely (virtio 1.3 §2.7.9).
            guard let entry = entries[Int(next)] else { throw .outOfOrder(id: UInt16(id)) }
            let whole = UInt32(truncatingIfNeeded: entry.chain.writableLength)
            popped.append(pop(next, entry, length: next == id ? length : whole))
            if next == id { return popped }
        }
    }

    private mutating func pop(
        _ id: UInt16, _ entry: Entry, length: UInt32
    ) -> (entry: Entry, buffer: ReapedBuffer) {
        entries[Int(id)] = nil
        count -= 1
        let buffer = ReapedBuffer(
            id: id, writtenLength: length, tag: entry.tag, chain: entry.chain)
        return (entry, buffer)
    }
}

/// One table in guest memory for each buffer id, for chains with indirect descriptors.
struct IndirectTables {
    private struct Table {
        let address: UInt64
        let area: SharedArea
    }

    private let memory: TestMemory
    private let region: Int
    private var tables: [Table?]

    init(memory: TestMemory, region: Int, size: Int) {
        self.memory = memory
        self.region = region
        tables = Array(repeating: nil, count: size)
    }

    /// The table of a buffer id, with room for at least `count` descriptors.
    mutating func table(id: UInt16, count: Int) -> (address: UInt64, area: SharedArea) {
        if let table = tables[Int(id)] {
            if table.area.byteCount >= 16 * count { return (table.address, table.area) }
            memory.free(table.address)
        }
        let address = memory.allocate(byteCount: 16 * count, inRegion: region)
        let area = memory.area(at: address, byteCount: 16 * count)
        tables[Int(id)] = Table(address: address, area: area)
        return (address, area)
    }
}
