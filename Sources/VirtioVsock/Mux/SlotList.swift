// SPDX-License-Identifier: Apache-2.0

import LinuxIO

/// The ends of a doubly linked list of slots; the links stand in the slots themselves.
struct SlotList: BitwiseCopyable {
    var first = ListLinks.none
    var last = ListLinks.none
    var count = 0
}

extension ConnectionTable {
    // MARK: Connections that have something for the guest, in the order of their turns

    /// Puts a connection at the end, unless it has its turn coming already.
    @inline(__always)
    func appendReady(_ index: Int) {
        if slots[index].ready.isLinked { return }
        let previous = ready.last
        slots[index].ready = ListLinks(previous: previous, next: ListLinks.none, isLinked: true)
        if previous >= 0 {
            slots[Int(previous)].ready.next = Int32(index)
        } else {
            ready.first = Int32(index)
        }
        ready.last = Int32(index)
        ready.count &+= 1
    }

    /// The connection whose turn it is; nil when none has anything for the guest.
    @inline(__always)
    var firstReady: Int? { ready.first >= 0 ? Int(ready.first) : nil }

    /// Takes a connection out.
    @inline(__always)
    func removeReady(_ index: Int) {
        let links = slots[index].ready
        guard links.isLinked else { return }
        if links.previous >= 0 {
            slots[Int(links.previous)].ready.next = links.next
        } else {
            ready.first = links.next
        }
        if links.next >= 0 {
            slots[Int(links.next)].ready.previous = links.previous
        } else {
            ready.last = links.previous
        }
        ready.count &-= 1
        slots[index].ready = ListLinks()
    }

    // MARK: Connections that wait, the first deadline of each list first

    /// The connection that has waited longest; nil when none waits like this.
    func firstWaiting(_ patience: Patience) -> Int? {
        let first = waiting[patience.rawValue].first
        return first >= 0 ? Int(first) : nil
    }

    /// How many connections wait like this.
    func waitingCount(_ patience: Patience) -> Int {
        waiting[patience.rawValue].count
    }

    /// Has a connection wait until `deadline`, which is not before that of any other in the list.
    func appendWaiting(_ index: Int, _ patience: Patience, until deadline: Instant) {
        removeWaiting(index)
        let list = patience.rawValue
        let previous = waiting[list].last
        slots[index].waiting = ListLinks(previous: previous, next: ListLinks.none, isLinked: true)
        slots[index].patience = patience
        slots[index].deadline = deadline
        if previous >= 0 {
            slots[Int(previous)].waiting.next = Int32(index)
        } else {
            waiting[list].first = Int32(index)
        }
        waiting[list].last = Int32(index)
        waiting[list].count += 1
    }

    /// Ends a connection's wait, if it waits at all.
    func removeWaiting(_ index: Int) {
        guard let patience = slots[index].patience else { return }
        let links = slots[index].waiting
        let list = patience.rawValue
        if links.previous >= 0 {
            slots[Int(links.previous)].waiting.next = links.next
        } else {
            waiting[list].first = links.next
        }
        if links.next >= 0 {
            slots[Int(links.next)].waiting.previous = links.previous
        } else {
            waiting[list].last = links.previous
        }
        waiting[list].count -= 1
        slots[index].waiting = ListLinks()
        slots[index].patience = nil
    }
}
