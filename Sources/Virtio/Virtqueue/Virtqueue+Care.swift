// SPDX-License-Identifier: Apache-2.0

extension Virtqueue {
    /// Journal of the buffers in flight, so that a successor can take up after a crash; nil for
    /// none.
    ///
    /// To be changed only while no buffer is taken.
    public var journal: (any InflightJournal)? {
        get {
            switch core {
            case .split(let queue): queue.value.care.journal.target
            case .packed(let queue): queue.value.care.journal.target
            }
        }
        set {
            switch core {
            case .split(let queue): queue.value.care.setJournal(newValue)
            case .packed(let queue): queue.value.care.setJournal(newValue)
            }
        }
    }

    /// Whether writes to the ring itself are recorded in the dirty log; at first, what the
    /// configuration says (SET_VRING_ADDR may change it on a running ring).
    public var logsRing: Bool {
        get {
            switch core {
            case .split(let queue): queue.value.care.logsRing
            case .packed(let queue): queue.value.care.logsRing
            }
        }
        set {
            switch core {
            case .split(let queue): queue.value.care.logsRing = newValue
            case .packed(let queue): queue.value.care.logsRing = newValue
            }
        }
    }

    /// Finds the ring again, after the regions of `memory` have changed.
    ///
    /// Until that succeeds the queue does not touch the ring: nothing is taken, and what is put is
    /// kept for later.
    ///
    /// - Throws: the ring does not lie in memory any more. Not fatal: try again after the next
    ///   change.
    public func revalidate() throws(VirtqueueError) {
        do throws(VirtqueueError) {
            move(to: try RingAreas(configuration, memory: memory.table.reference))
        } catch {
            move(to: nil)
            throw error
        }
    }

    /// Leaves the ring alone from now on: nothing is taken, and what is still put reaches nobody.
    ///
    /// For a queue that has a successor although buffers are outstanding.
    public func detach() {
        move(to: nil)
    }

    private func move(to areas: RingAreas?) {
        switch core {
        case .split(let queue): queue.value.move(to: areas)
        case .packed(let queue): queue.value.move(to: areas)
        }
    }
}
