// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// Every connection of one guest, found by its ports.
///
/// Slots come in chunks as they are needed and never move, so that the data path reaches one
/// without a copy and without a check for exclusive access; what stands in a slot is found again by
/// its number, which is also the tag of its socket in the event loop.
final class ConnectionTable {
    /// The slots, by number.
    let slots: GrowingSlab<ConnectionSlot>
    private let limit: Int
    private var freeSlots: [Int32] = []

    /// Open addressing with linear probing over a power of two of places, at most half full.
    private let places: Slab<Int32>
    private let mask: Int
    private let seed: UInt64
    /// The slot that was found last: bulk traffic asks for the same one again.
    private var lastFound = -1

    /// The list that `SlotList.swift` keeps.
    var ready = SlotList()
    /// One list for each kind of patience.
    let waiting = Slab<SlotList>(count: Patience.allCases.count) { _ in SlotList() }

    /// Slots that are in use.
    private(set) var count = 0

    /// An empty table.
    ///
    /// - Parameters:
    ///   - limit: slots that there may be, at least one.
    ///   - seed: what a guest must not know, so that it cannot aim at one place of the table.
    init(limit: Int, seed: UInt64 = .random(in: .min ... .max)) {
        precondition(limit > 0, "a table has room for at least one connection")
        self.seed = seed
        self.limit = limit
        slots = GrowingSlab(limit: limit) { ConnectionSlot() }
        var size = 16
        while size < limit * 2 { size *= 2 }
        places = Slab(count: size) { _ in -1 }
        mask = size - 1
    }

    // MARK: Slots

    /// Takes a slot that is not in use; nil when there may be no more.
    func allocate() -> Int? {
        if freeSlots.isEmpty { grow() }
        guard let index = freeSlots.popLast() else { return nil }
        count += 1
        return Int(index)
    }

    private func grow() {
        for index in slots.grow().reversed() where index < limit {
            freeSlots.append(Int32(index))
        }
    }

    /// Gives a slot back; its socket has been closed.
    func release(_ index: Int) {
        removeReady(index)
        removeWaiting(index)
        slots[index].connection = Connection(allocation: 0)
        freeSlots.append(Int32(index))
        count -= 1
    }

    /// The numbers of all slots that have ever been in use.
    var indices: Range<Int> { 0..<slots.count }

    // MARK: Ports

    /// The connection with these ports; nil when there is none.
    @inline(__always)
    func find(_ key: ConnectionKey) -> Int? {
        let last = lastFound
        if last >= 0 && slots[last].connection.key == key { return last }
        return search(key)
    }

    private func search(_ key: ConnectionKey) -> Int? {
        var place = home(key)
        while places[place] >= 0 {
            let index = Int(places[place])
            if slots[index].connection.key == key {
                lastFound = index
                return index
            }
            place = (place + 1) & mask
        }
        return nil
    }

    /// Lets a slot be found by its ports, which no other slot has.
    func insert(_ index: Int) {
        var place = home(slots[index].connection.key)
        while places[place] >= 0 { place = (place + 1) & mask }
        places[place] = Int32(index)
    }

    /// Lets a slot not be found any more; nothing happens when it cannot be.
    func remove(_ index: Int) {
        if lastFound == index { lastFound = -1 }
        var place = home(slots[index].connection.key)
        while places[place] != Int32(index) {
            if places[place] < 0 { return }
            place = (place + 1) & mask
        }
        close(gap: place)
    }

    /// Moves what stands behind the gap into it, as far as it may stand there.
    private func close(gap start: Int) {
        var gap = start
        var place = (gap + 1) & mask
        while places[place] >= 0 {
            let wanted = home(slots[Int(places[place])].connection.key)
            if (place &- wanted) & mask >= (place &- gap) & mask {
                places[gap] = places[place]
                gap = place
            }
            place = (place + 1) & mask
        }
        places[gap] = -1
    }

    @inline(__always)
    private func home(_ key: ConnectionKey) -> Int {
        Int(truncatingIfNeeded: key.hash(seed: seed)) & mask
    }
}
