// SPDX-License-Identifier: Apache-2.0

/// Deadlines in order; of equal ones, the timer that was set first.
///
/// A cancelled timer stays in the heap until it comes to the front, or until most of the heap is
/// cancelled ones.
struct TimerQueue {
    private struct Entry {
        let deadline: Instant
        let identifier: UInt64

        func isBefore(_ other: Entry) -> Bool {
            deadline == other.deadline
                ? identifier < other.identifier : deadline < other.deadline
        }
    }

    private struct Target {
        let handler: any TimerHandler
        let tag: Int
    }

    private var heap: [Entry] = []
    private var targets: [UInt64: Target] = [:]
    /// What the next timer is going to be called; greater than that of every timer that was set.
    private(set) var nextIdentifier: UInt64 = 1

    mutating func insert(deadline: Instant, handler: any TimerHandler, tag: Int) -> TimerToken {
        let identifier = nextIdentifier
        nextIdentifier += 1
        targets[identifier] = Target(handler: handler, tag: tag)
        heap.append(Entry(deadline: deadline, identifier: identifier))
        siftUp(from: heap.count - 1)
        return TimerToken(identifier: identifier)
    }

    mutating func cancel(_ token: TimerToken) {
        guard targets.removeValue(forKey: token.identifier) != nil else { return }
        if heap.count > 2 * targets.count + 64 {
            heap.removeAll { targets[$0.identifier] == nil }
            // A sorted array is a heap.
            heap.sort { $0.isBefore($1) }
        }
        dropCancelled()
    }

    /// The next deadline that anybody waits for.
    var nextDeadline: Instant? { heap.first?.deadline }

    /// Takes the first timer whose deadline is not after `now`, if it was set before the timer with
    /// the given identifier.
    mutating func popDue(
        at now: Instant, setBefore limit: UInt64
    ) -> (handler: any TimerHandler, tag: Int)? {
        while let first = heap.first, first.deadline <= now, first.identifier < limit {
            removeFirst()
            if let target = targets.removeValue(forKey: first.identifier) {
                dropCancelled()
                return (target.handler, target.tag)
            }
        }
        return nil
    }

    /// Keeps the invariant that the first entry is a timer that somebody waits for, so that a
    /// cancelled one never wakes the loop.
    private mutating func dropCancelled() {
        while let first = heap.first, targets[first.identifier] == nil { removeFirst() }
    }

    private mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        siftDown()
    }

    private mutating func siftUp(from start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            if !heap[child].isBefore(heap[parent]) { return }
            heap.swapAt(parent, child)
            child = parent
        }
    }

    private mutating func siftDown() {
        var parent = 0
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].isBefore(heap[smallest]) {
                smallest = child
            }
            if smallest == parent { return }
            heap.swapAt(parent, smallest)
            parent = smallest
        }
    }
}
