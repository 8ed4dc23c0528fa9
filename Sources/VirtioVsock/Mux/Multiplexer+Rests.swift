// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

// Streams to the guest that are read by the clock (`Pace`). Nobody is told of their bytes: the timer
// of the earliest deadline leads to them. Their end, and that of the connection, is reported at once.
//
// While such a stream, or one that comes in large pieces, is all there is, and the guest sends nothing
// but credit for it, the guest need not notify either: its packets are looked at with the stream's next
// bytes, and after a rest at the latest.
extension Multiplexer {
    /// Passes over the guest's packets with nothing but credit updates before it need not notify.
    private static let quietPasses = 16

    /// A read has emptied the socket of a stream.
    @inline(__always)
    func noteRead(_ slot: Int, byteCount: Int) {
        let wasKept = table.slots[slot].pace.isKept
        let rests = canRest && table.slots[slot].pace.read(byteCount)
        if rests || wasKept { changePace(slot, wasKept: wasKept, rests: rests) }
    }

    @inline(never)
    private func changePace(_ slot: Int, wasKept: Bool, rests: Bool) {
        if rests != wasKept {
            table.slots[slot].host.setReadByClock(rests, loop: loop)
        }
        if rests {
            counters.value.rests &+= 1
            wait(slot, .rest)
        }
    }

    /// There was nothing to read.
    func noteEmpty(_ slot: Int) {
        if table.slots[slot].pace.isKept { noteRead(slot, byteCount: 0) }
    }

    /// The guest has sent something on the connection: that is no stream to it.
    @inline(__always)
    func interruptPace(_ slot: Int) {
        let wasKept = table.slots[slot].pace.isKept
        table.slots[slot].pace.interrupt()
        if wasKept { resumeReading(slot) }
    }

    private func resumeReading(_ slot: Int) {
        if table.slots[slot].patience == .rest { table.removeWaiting(slot) }
        table.slots[slot].host.setReadByClock(false, loop: loop)
    }

    /// A rest is over.
    func restEnded(_ slot: Int) {
        guard table.slots[slot].connection.phase == .established else { return }
        table.slots[slot].connection.hostReadable(isEnding: false)
        refresh(slot)
    }

    // MARK: The guest's notifications meanwhile

    /// Counts passes over the guest's packets with nothing but credit updates.
    func notePass(packetCount: Int, isQuiet: Bool) {
        if !isQuiet {
            quietPassCount = 0
        } else if packetCount > 0 && quietPassCount < Self.quietPasses {
            quietPassCount += 1
        }
    }

    /// The turn has moved much to the guest: more is expected to come as soon as a rest would end.
    func noteBulk() {
        guard canRest else { return }
        bulkEnd = loop.now.advanced(byNanoseconds: options.rest.wholeNanoseconds)
    }

    /// At the beginning of a turn, which looks at the guest's packets in any case: while it lasts,
    /// the guest need not notify.
    func leaveHostboundUnwatched() {
        guard let queue = hostboundQueue else { return }
        queue.suppressNotifications()
        hostboundIsDue = true
    }

    /// At the end of a turn: the guest has to notify, unless its packets are looked at soon anyway.
    func watchHostbound() {
        let hasRested = table.waitingCount(.rest) > 0
        isHostboundUnwatched =
            quietPassCount >= Self.quietPasses && (hasRested || expectsBulk)
        if isHostboundUnwatched {
            if !hasRested { setLookTimer() }
        } else if !hostboundIsDue, let queue = hostboundQueue {
            hostboundIsDue = queue.requestNotifications()
        }
    }

    /// Whether the host is sure to lead back here: a stream waits for it, and not for the guest.
    private var expectsBulk: Bool {
        loop.now < bulkEnd && table.slots[servedSlot].connection.guestbound.available > 0
    }

    /// Should the host stop all the same, credit that the guest has given is seen that much later.
    private func setLookTimer() {
        if lookTimerIsSet { return }
        lookTimerIsSet = true
        loop.setTimer(after: options.rest, handler: self, tag: TimerTag.look.rawValue)
    }

    /// Every timer that leads to packets without a notification leads here, that of a rest which
    /// has been called off, too.
    func deadlinePassed() {
        if isHostboundUnwatched { deferTurn() }
    }
}
