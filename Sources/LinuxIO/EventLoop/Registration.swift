// SPDX-License-Identifier: Apache-2.0

/// A descriptor's place in an event loop: a slot and its generation, not the descriptor's number,
/// so that an event for a closed and reused number reaches nobody.
public struct Registration: Hashable, Sendable {
    let index: UInt32
    let generation: UInt32

    /// The 64 bits that epoll keeps beside the descriptor.
    var token: UInt64 { UInt64(generation) << 32 | UInt64(index) }
}

/// A timer that was set and may be cancelled.
public struct TimerToken: Hashable, Sendable {
    let identifier: UInt64
}

/// One slot of the loop's table.
struct RegistrationSlot {
    /// Keeps the handler alive; nil while the slot is free.
    var handler: (any EventHandler)?
    var tag = 0
    var generation: UInt32 = 1
    var descriptor: Int32 = -1
}

/// The slots of a loop, reached by index without copying a handler.
@safe struct RegistrationTable: ~Copyable {
    private var slots: UnsafeMutablePointer<RegistrationSlot>
    private var capacity: Int
    private var count = 0
    private var free: [UInt32] = []
    /// Handlers that were removed in this turn: one may be running, so all live until its end.
    private var retired: [any EventHandler] = []

    init() {
        capacity = 16
        unsafe slots = .allocate(capacity: 16)
    }

    deinit {
        unsafe slots.deinitialize(count: count)
        unsafe slots.deallocate()
    }

    /// Fills a free slot.
    mutating func insert(
        _ descriptor: Int32, handler: any EventHandler, tag: Int
    ) -> Registration {
        let index = free.popLast() ?? addSlot()
        // SAFETY: the index is one of the `count` slots.
        let slot = unsafe slots + Int(index)
        unsafe slot.pointee.handler = handler
        unsafe slot.pointee.tag = tag
        unsafe slot.pointee.descriptor = descriptor
        return unsafe Registration(index: index, generation: slot.pointee.generation)
    }

    private mutating func addSlot() -> UInt32 {
        if count == capacity {
            let larger = UnsafeMutablePointer<RegistrationSlot>.allocate(capacity: capacity * 2)
            // SAFETY: the larger table has room for the slots that move there.
            unsafe larger.moveInitialize(from: slots, count: count)
            unsafe slots.deallocate()
            unsafe slots = larger
            capacity *= 2
        }
        // SAFETY: the count is below the capacity.
        unsafe (slots + count).initialize(to: RegistrationSlot())
        count += 1
        return UInt32(count - 1)
    }

    /// Empties a slot; events for the old generation reach nobody.
    mutating func remove(_ registration: Registration) {
        // SAFETY: a current registration's index is one of the slots.
        guard isCurrent(registration), let handler = unsafe slots[at(registration)].handler else {
            return
        }
        retired.append(handler)
        unsafe slots[at(registration)].handler = nil
        unsafe slots[at(registration)].descriptor = -1
        unsafe slots[at(registration)].generation &+= 1
        free.append(registration.index)
    }

    private func at(_ registration: Registration) -> Int { Int(registration.index) }

    /// Whether the registration has not been removed.
    func isCurrent(_ registration: Registration) -> Bool {
        let index = at(registration)
        guard index < count else { return false }
        // SAFETY: checked just now.
        return unsafe slots[index].generation == registration.generation
            && slots[index].handler != nil
    }

    /// The number of the descriptor; nil when the registration was removed.
    func descriptor(of registration: Registration) -> Int32? {
        // SAFETY: a current registration's index is one of the slots.
        isCurrent(registration) ? unsafe slots[at(registration)].descriptor : nil
    }

    /// What an event with this token is for; nil when its registration was removed.
    @inline(__always)
    func target(token: UInt64) -> EventTarget? {
        let index = Int(UInt32(truncatingIfNeeded: token))
        guard index < count else { return nil }
        // SAFETY: checked just now.
        let slot = unsafe slots + index
        guard unsafe slot.pointee.generation == UInt32(truncatingIfNeeded: token >> 32) else {
            return nil
        }
        return unsafe EventTarget(slot)
    }

    /// Whether handlers were removed and not given up.
    var hasRetired: Bool { !retired.isEmpty }

    /// Gives up the handlers that were removed.
    ///
    /// To be called when none is running. They may do anything as they go.
    mutating func takeRetired() -> [any EventHandler] {
        if retired.isEmpty { return [] }
        let handlers = retired
        retired = []
        return handlers
    }

    /// Removes every handler.
    mutating func removeAll() {
        for index in 0..<count {
            // SAFETY: the index is below the count.
            let generation = unsafe slots[index].generation
            remove(Registration(index: UInt32(index), generation: generation))
        }
    }
}

/// A handler and its tag, not retained: the table keeps it until the end of the turn.
///
/// SAFETY: the two words are those of the slot's existential. They are only read as one while the
/// slot or the list of retired handlers keeps the object alive, and never destroyed as one.
@safe struct EventTarget {
    private let words: (UInt, UInt)
    private let tag: Int

    @inline(__always)
    fileprivate init?(_ slot: UnsafeMutablePointer<RegistrationSlot>) {
        guard unsafe slot.pointee.handler != nil else { return nil }
        // SAFETY: an optional class existential that is not nil has the words of the existential;
        // the handler is the slot's first field.
        unsafe words = UnsafeRawPointer(slot).load(as: (UInt, UInt).self)
        tag = unsafe slot.pointee.tag
    }

    /// Calls the handler.
    @inline(__always)
    func descriptorReady(_ readiness: Readiness) {
        unsafe withUnsafePointer(to: words) { words in
            unsafe UnsafeRawPointer(words).assumingMemoryBound(to: LiveHandler.self)
                .pointee.descriptorReady(readiness, tag: tag)
        }
    }
}

/// The same words while they are used; a type that cannot be copied, so that calling through it
/// borrows the reference instead of counting it.
private struct LiveHandler: ~Copyable {
    let handler: any EventHandler

    @inline(never)
    borrowing func descriptorReady(_ readiness: Readiness, tag: Int) {
        handler.descriptorReady(readiness, tag: tag)
    }
}
