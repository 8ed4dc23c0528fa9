// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

/// One run of a ring's queue, as its device's thread sees it: from the start until nothing of it is
/// in flight.
///
/// Lives on its device's thread; the queue itself may not (`RingSeat`).
final class RingRun {
    let number: Int
    /// The memory that its buffers lie in, or the one whose view that is.
    let memory: GuestMemory
    private let seat: SeatPost
    private let mailbox: Mailbox?
    /// Where the queue ended; nil before that is known.
    private(set) var base: UInt32?
    /// Whether nothing of it is in flight any more.
    private(set) var isDrained = false
    private var drainWaiter: (() -> Void)?
    private var cutOffWaiters: [() -> Void] = []

    /// - Parameters:
    ///   - number: tells the runs of a ring apart.
    ///   - memory: the session's.
    ///   - seat: where the queue is.
    ///   - mailbox: of the device's loop, if the seat is on another thread.
    init(_ number: Int, memory: GuestMemory, seat: SeatPost, mailbox: Mailbox?) {
        self.number = number
        self.memory = memory
        self.seat = seat
        self.mailbox = mailbox
    }

    /// What the seat reports to.
    var address: OwnerAddress<RingRun> { OwnerAddress(self, mailbox: mailbox) }

    /// Calls `body` once nothing is in flight: now, or later, perhaps from within the device's work:
    /// then nothing is to be done in it but to take note.
    func whenDrained(_ body: @escaping () -> Void) {
        if isDrained { body() } else { drainWaiter = body }
    }

    /// Has the requests in flight cut short.
    func expedite() {
        seat.post { [number] in $0.expedite(number) }
    }

    /// Has the queue leave its ring and its driver alone; calls `body` when it does so, perhaps now.
    func cutOff(_ body: @escaping () -> Void) {
        cutOffWaiters.append(body)
        seat.post { [number, address] in $0.cutOff(number, address) }
    }

    /// Has the last signal go out, after the queue has drained.
    func settle() {
        seat.post { [number] in $0.settle(number) }
    }

    // MARK: Called by the seat

    /// Nothing is in flight any more.
    func hasDrained(at base: UInt32) {
        self.base = base
        isDrained = true
        let body = drainWaiter
        drainWaiter = nil
        body?()
    }

    /// The queue has been cut off; nil when it had drained before.
    func wasCutOff(at base: UInt32?) {
        self.base = base ?? self.base
        guard !cutOffWaiters.isEmpty else { return }
        cutOffWaiters.removeFirst()()
    }
}
