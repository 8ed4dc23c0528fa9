// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

// Streams to the guest that are read by the clock (`Pace`). Nobody is told of their bytes: the timer
// of the earliest deadline leads to them. Their end, and that of the connection, is reported at once.
//
// While such a stream is all there is, and the guest sends nothing but credit for it, the guest need
// not notify either: its packets are looked at after each rest.
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

    /// Whether the guest need not notify: called when its queue is empty.
    var mayLeaveHostboundUnwatched: Bool {
        isHostboundUnwatched = quietPassCount >= Self.quietPasses && hasRested
        return isHostboundUnwatched
    }

    /// Counts passes over the guest's packets with nothing but credit updates.
    func notePass(packetCount: Int, isQuiet: Bool) {
        if !isQuiet {
            quietPassCount = 0
        } else if packetCount > 0 && quietPassCount < Self.quietPasses {
            quietPassCount += 1
        }
    }

    /// At the end of a turn: without a rest, whose end leads back here, the guest has to notify.
    func endTurnOfRests() {
        hasRested = table.waitingCount(.rest) > 0
        guard isHostboundUnwatched, !hasRested else { return }
        isHostboundUnwatched = false
        if let queue = hostboundQueue, queue.requestNotifications() { hostboundIsDue = true }
    }

    /// A turn begins: looks at packets that nobody has notified of.
    func beginTurnOfRests() {
        if isHostboundUnwatched { hostboundIsDue = true }
    }

    /// Every timer for deadlines leads here, that of a rest which has been called off, too.
    func deadlinePassed() {
        if isHostboundUnwatched { deferTurn() }
    }
}
